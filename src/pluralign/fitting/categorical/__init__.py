"""The recipe of `categorical` (DPRM)."""
