"""KL-only samples of any trainer: what is asked of them, golds beside the loss, their reference."""
