"""How many rows of what, from where and at what price, before anything is made."""
