"""Batch transforms, one file each: they change the images and targets of a training batch."""

from wsol.batch_transforms.cutmix import CutMix
from wsol.batch_transforms.has import HaS

__all__ = ["CutMix", "HaS"]
