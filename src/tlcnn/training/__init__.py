"""Training: batches, the loop, the optimiser, metrics and checkpoints."""
