"""What listens to training: the lines on the screen, and the stop of a training that diverged."""
