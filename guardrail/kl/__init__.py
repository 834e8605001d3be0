"""The KL term: loss, schedule, samples."""
