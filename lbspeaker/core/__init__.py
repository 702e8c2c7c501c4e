"""Decisions: values → values. No I/O, clock, environment, randomness or logger; time is an argument."""
