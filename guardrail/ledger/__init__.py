"""The record of a run: one JSON line a thing that happened, written before anything acts on it."""
