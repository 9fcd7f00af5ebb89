"""What trainers of policies and of backbones share. It knows no data and no loss.

Exact resuming, complete checkpoints, rows over several processes, switching dropout off, adapters.
"""
