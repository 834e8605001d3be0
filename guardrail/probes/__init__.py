"""One answer → measurements; pure functions, one file a probe."""
