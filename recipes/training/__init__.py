"""Training: batches, checkpoints, events for TensorBoard, the loop."""
