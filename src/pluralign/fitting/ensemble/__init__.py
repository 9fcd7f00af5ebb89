"""The recipe of `gaussian_ensemble` (BRME) and of ensembles of Bradley-Terry heads."""
