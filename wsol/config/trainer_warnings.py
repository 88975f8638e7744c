"""Messages of Lightning and its relatives about things that are intended here, which a user can do nothing about."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

INTENDED = (
    ".*does not have many workers.*",
    ".*LeafSpec.*",
    ".*treespec.*",
    ".*Total length of `list` across ranks is zero.*",
    ".*lr_scheduler.step.*",
    ".*Checkpoint directory .* exists.*",
    ".*number of training batches.*smaller than the logging interval.*",
    ".*suggested max number of worker.*",
    ".*Trying to infer the `batch_size`.*",
    ".*GPU available but not used.*",
    ".*barrier.*device.*",
    ".*resuming from a checkpoint that ended before the epoch.*",
    ".*``compute`` method of metric.*was called before.*",
)
"""Patterns of warnings."""

LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning")
"""Loggers of Lightning, which inform about devices and recommend other packages."""


def ignore_intended() -> None:
    """Ignore these warnings from now on, as the command line does."""
    for pattern in INTENDED:
        warnings.filterwarnings("ignore", pattern)


@contextlib.contextmanager
def intended_ignored() -> Iterator[None]:
    """Ignore these warnings within the block, and what Lightning's loggers say below the level of a warning.

    Example:
        >>> with intended_ignored():
        ...     warnings.warn("The number of training batches (1) is smaller than the logging interval")
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        ignore_intended()
        try:
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
