"""What is refused before a run is made, and what is known of it by then: `guardrail check` is this room."""
