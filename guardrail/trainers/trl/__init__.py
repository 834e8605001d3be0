"""The seams into TRL's trainers."""
