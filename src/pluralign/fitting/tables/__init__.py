"""The inputs of every recipe: tables of ratings, pairs and votes, in the form used for fitting."""
