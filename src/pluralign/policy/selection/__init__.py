"""From several completions of a prompt to those that are worth training on: rules, novelty, tables."""
