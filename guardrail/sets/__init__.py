"""What is asked: items, their checks, their files."""
