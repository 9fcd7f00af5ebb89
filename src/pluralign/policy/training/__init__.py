"""What offline and online trainers share: which checkpoint a run continues from, whole writing."""
