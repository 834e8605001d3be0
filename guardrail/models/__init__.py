"""Where a model comes from, which one it is, how it opens and ends a turn, and the one teacher-forced path through it."""
