"""What leaves the run folder: W&B and other trackers, alerts, and numbers of the user's own."""
