"""What listens to training: progress, checkpoints within an epoch, NaN; by choice early stopping and averaged weights."""
