"""Datasets, one file each, and the way of an image from its file into a batch."""
