"""`guardrail serve RUN`: looks that another process takes at the checkpoints a training saves."""
