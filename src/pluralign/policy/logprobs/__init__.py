"""Log-probabilities of a policy's responses: packing, the second forward pass, loading and probing models."""
