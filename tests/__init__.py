"""The tests of boltws."""
