"""Edits, one file each: they change the features at a point of a backbone during training."""

from wsol.edits.adl import ADL

__all__ = ["ADL"]
