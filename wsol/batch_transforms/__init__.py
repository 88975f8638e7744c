"""Transforms of whole batches in training: (images, targets) to new ones; torchvision has CutMix and MixUp."""
