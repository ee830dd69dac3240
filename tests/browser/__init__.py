"""The demo chat as people meet it: in a real browser."""
