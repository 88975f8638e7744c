"""What listens to training: the lines on the screen, how far it is, checkpoints within an epoch, and the stop of a training that diverged."""
