"""Composing sets from quotas, and showing what they consist of."""
