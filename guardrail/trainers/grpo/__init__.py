"""KL-only samples in GRPO, whichever trainer: their form, where they stand, whose rewards they never see."""
