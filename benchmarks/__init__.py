"""Measurements: a seeded generator of events, three reference programs, and what runs and compares them."""
