"""Edits, one file each: what changes features at a point of a backbone while training."""

from wsol.edits.adl import ADL

__all__ = ["ADL"]
