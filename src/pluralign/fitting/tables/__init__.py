"""What every recipe is given: tables of ratings, pairs and votes, in the form that is fitted."""
