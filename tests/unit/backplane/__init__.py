"""Each module of the backplane on its own."""
