"""What is wrong with items and sets, by named rule."""
