"""Which rows are worth training on."""
