"""`OfflineTrainer`: QRPO, DPO, REBEL and SimPO on a table of rewarded responses."""
