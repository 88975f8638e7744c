"""What listens to training: progress, checkpoints within an epoch, the stop on NaN; by choice early stopping and EMA."""
