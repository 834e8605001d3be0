"""How rows are made: one file a method, each to the letter of its source."""
