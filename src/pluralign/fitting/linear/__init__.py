"""Families with exact solvers (Bradley-Terry, regression, quantile), and the baselines built from them."""
