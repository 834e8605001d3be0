"""What `guardrail run` starts where one process is not enough, and how it goes about it."""
