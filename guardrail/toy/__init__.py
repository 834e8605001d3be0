"""The toy base: a million parameters, seven templated abilities, trained in minutes."""
