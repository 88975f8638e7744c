"""What listens to training: the metrics file, the lines on the screen, Weights & Biases."""
