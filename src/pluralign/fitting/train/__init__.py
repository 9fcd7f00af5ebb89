"""The common parts of all fits by gradient descent: the loop, its state on disk, the journal."""
