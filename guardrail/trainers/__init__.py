"""The seams into the trainers: attach, inject, look, move the levers."""
