"""A run folder → facts → the report a person reads the next morning."""
