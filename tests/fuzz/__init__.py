"""Fuzzing: what comes from the network, made up by atheris (libFuzzer). ``make fuzz`` runs it.

A target is a module with ``check(data)``, which raises where something does not hold. The seeds
in ``corpus`` are replayed by the test suite, without atheris; what a run finds becomes one.
"""
