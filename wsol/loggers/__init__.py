"""Where the numbers of a training go: metrics.csv, Weights & Biases."""
