"""Heads, one file each: from features to class scores, maps or boxes, and the terms of the training loss."""

from wsol.heads.acol import AcolHead
from wsol.heads.acol_chain import AcolChainHead
from wsol.heads.bas import BasHead
from wsol.heads.base import Head
from wsol.heads.box import BoxHead
from wsol.heads.c2am import C2amHead
from wsol.heads.calm import CalmHead
from wsol.heads.dawsol import DawsolHead
from wsol.heads.gap import GapHead
from wsol.heads.sat import SatHead
from wsol.heads.scm import ScmHead
from wsol.heads.spg import SpgHead
from wsol.heads.tscam import TscamHead

__all__ = [
    "AcolChainHead",
    "AcolHead",
    "BasHead",
    "BoxHead",
    "C2amHead",
    "CalmHead",
    "DawsolHead",
    "GapHead",
    "Head",
    "SatHead",
    "ScmHead",
    "SpgHead",
    "TscamHead",
]
