"""Callbacks of training: progress, checkpoints within an epoch, NaN, early stopping, averaged weights."""
