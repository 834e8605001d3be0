"""Who answers, and what a look makes of the answers."""
