"""`guardrail rehearse`: the whole path of a guarded run in minutes, on the user's own model and launcher."""
