"""From answers to harms, from harms to a verdict, from a verdict to an action: arrays in, plain data out."""
