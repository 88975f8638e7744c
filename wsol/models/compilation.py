"""Compiling a network with `torch.compile`, for training and evaluation."""

from __future__ import annotations

import os
import shutil

from torch import nn

from wsol.errors import InputError

COMPILERS = ("c++", "g++", "clang++", "cl")


def compile_network(network: nn.Module) -> None:
    """Make a network compile itself at its first call; names of parameters and buffers stay the same.

    Raises:
        InputError: there is no C++ compiler, which torch.compile needs on both CPUs and GPUs.
    """
    if not any(shutil.which(name) for name in (os.environ.get("CXX") or COMPILERS[0], *COMPILERS)):
        raise InputError("compile=true needs a C++ compiler, and none is on PATH; install g++, or remove compile")
    network.compile()
