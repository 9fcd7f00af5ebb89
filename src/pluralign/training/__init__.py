"""What trainers of policies and of backbones share, independent of data and loss.

Exact resuming, complete checkpoints, rows over several processes, switching dropout off, adapters.
"""
