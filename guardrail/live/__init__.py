"""What people see while a run goes: the terminal, `guardrail status`, the page served as it grows."""
