"""Conformance: what the Autobahn TestSuite says of the echo example. `make conformance` runs it."""
