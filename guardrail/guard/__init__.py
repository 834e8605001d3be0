"""The guard of one run: its looks, state, levers and ranks. It knows no trainer."""
