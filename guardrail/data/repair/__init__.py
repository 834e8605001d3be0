"""After a run: what drifted, rehearsal items for it, and the recipe of the next run."""
