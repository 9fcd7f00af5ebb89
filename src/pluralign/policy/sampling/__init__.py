"""Prompts to completions on disk: sampled in this process, by a server, or imported."""
