"""`PPOTrainer`: trains a policy on its own samples, with rewards that are distributions."""
