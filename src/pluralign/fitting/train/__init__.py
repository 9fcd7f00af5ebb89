"""What every fit by gradient descent shares: the loop, its state on disk, the journal."""
