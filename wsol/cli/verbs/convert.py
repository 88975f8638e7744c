"""`wsol convert`: convert weights of another program to a checkpoint of this one, and checkpoints to one file and back.

It supports the networks of `wsol.interop.peers`, recognised by the names of their tensors, and with ``backbone=...``
the classifiers of torchvision and timm that read the mean of their last features, which have class activation maps
without training.
"""

from __future__ import annotations

from omegaconf import DictConfig

from wsol.cli import screen
from wsol.engine import conversion


def run(config: DictConfig) -> int:
    """Convert under a composed config; returns the exit code."""
    screen.start_logging()
    network, path = conversion.run(config)
    print(network.title)
    print(f"written to {path}; evaluate it with: wsol eval {path}")
    if path.is_dir() and network.settings.data is None:
        print("Its classes are numbers: to evaluate it, convert it with the dataset it was trained on, data=...")
    return 0
