"""`PPOTrainer`: trains a policy on its own samples, with distributions of rewards."""
