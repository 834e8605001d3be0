"""What the base said: golds, replicates, log-probabilities, and the manifest that ties them to one base."""
