"""Guard a fine-tuning run against forgetting: anchors, KL-only samples, looks, a ladder, a report."""

__version__ = "0.1.0"

__all__ = ["__version__"]
