"""Every example, run as its own text says, with real clients."""
