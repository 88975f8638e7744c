"""What listens to training: lines of progress, checkpoints within an epoch, the stop of a training that diverged."""
