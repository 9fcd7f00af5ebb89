"""Prompts to completions on disk: drawn in this process, by a server, or imported."""
