"""Judges behind a server: language models whose answers become scores, distributions or votes."""
