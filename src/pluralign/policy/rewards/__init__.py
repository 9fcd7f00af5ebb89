"""Completions to rewards, ranks among references, training tables and what they ask of a policy."""
