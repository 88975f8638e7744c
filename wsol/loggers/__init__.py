"""Loggers of training metrics: metrics.csv, Weights & Biases."""
