"""Families with exact solvers (Bradley-Terry, regression, quantile), and the baselines made of them."""
