"""Trains the backbone together with a head: the settings, the problem of a family, the loop."""
