"""Training checkpoints on disk: written completely or not at all; the last two are kept, the newest readable is used.

::

    checkpoints/last.ckpt        the end of the last complete epoch, or a later step
    checkpoints/previous.ckpt    the one before it
    checkpoints/best.ckpt        the best epoch by `monitor`
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from wsol.errors import InputError
from wsol.files import atomic_file, remove_leftovers
from wsol.runs import checkpoints

log = logging.getLogger("wsol")

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
REQUEUE = "hpc_ckpt_"
"""Start of the name of the file that Lightning saves when SLURM is about to requeue the job."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints under a temporary name, and keeps last.ckpt as previous.ckpt when a new one replaces it.

    The temporary file is in the folder of the checkpoint and never in the system's temporary folder, which may be small
    or on another disk. A process that is killed at any moment leaves the older checkpoints complete.

    Args:
        keep_last: whether the present last.ckpt may become previous.ckpt; False if it is unreadable.
    """

    def __init__(self, *, keep_last: bool = True) -> None:
        self._keep_last = keep_last

    def save_checkpoint(
        self, checkpoint: Mapping[str, Any], path: str | os.PathLike, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; see `wsol.runs.checkpoints.write`.

        Raises:
            OSError: it cannot be written; the older checkpoints are unchanged.
        """
        target = Path(path)
        if target.name.startswith(REQUEUE):
            # Called within a signal handler; a requeued job continues from last.ckpt instead.
            log.info("SLURM requeues this job; it will continue from the last checkpoint")
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        checkpoints.write(checkpoint, target, before_replacing=self._keep if target.name == LAST else None)
        self._keep_last = self._keep_last or target.name == LAST

    def _keep(self, last: Path) -> None:
        """Link the checkpoint that is about to be replaced as previous.ckpt."""
        if self._keep_last and last.exists():
            with atomic_file(last.with_name(PREVIOUS)) as temporary:
                try:
                    os.link(last, temporary)
                except OSError:  # a file system without hard links
                    shutil.copyfile(last, temporary)


class ResumePoint(NamedTuple):
    """The checkpoint from which a training continues."""

    file: Path
    """The checkpoint."""
    step: int
    """Number of optimizer steps that it includes."""
    is_last: bool
    """Whether it is last.ckpt; if not, last.ckpt is missing or unreadable."""


def resume_point(run: Path) -> ResumePoint | None:
    """Return the newest readable one of a run's last two checkpoints; None if there are no checkpoints.

    Each file that cannot be read is logged with the reason.

    Args:
        run: the run folder.

    Raises:
        InputError: there are checkpoints, but none can be read.
    """
    folder, unreadable = run / "checkpoints", []
    for file in (folder / LAST, folder / PREVIOUS):
        if not file.exists():
            continue
        try:
            step = int(checkpoints.read(file)["global_step"])
        except (InputError, KeyError, TypeError, ValueError) as error:
            unreadable.append(str(error) if isinstance(error, InputError) else f"{file}: has no number of steps")
            continue
        if unreadable:
            log.warning("%s; continuing from the previous checkpoint, %s, after step %d", unreadable[0], file, step)
        return ResumePoint(file, step, file.name == LAST)
    if unreadable:
        raise InputError(
            f"{'; '.join(unreadable)}; no checkpoint is left to continue from: train again, with another run_dir or "
            f"without resume ({BEST}, if it exists, can still be evaluated by `wsol eval`)"
        )
    return None


def remove_partial(run: Path) -> None:
    """Remove partial checkpoints that killed processes, on any machine, left in a run's folder."""
    folder = run / "checkpoints"
    for name in (LAST, PREVIOUS, BEST):
        remove_leftovers(folder / name)
        for left in folder.glob(f".{name}.partial-*"):  # the run belongs to this process now
            with contextlib.suppress(OSError):
                left.unlink()
