"""What is checked when a guard is attached and before the first step, so that nothing goes wrong unseen later."""
