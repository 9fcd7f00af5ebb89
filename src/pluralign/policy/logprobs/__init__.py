"""Log-probabilities of what a policy says: packing, the second forward pass, loading and probing models."""
