"""From completions to rewards, ranks among references, training tables and their diagnosis."""
