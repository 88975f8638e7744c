"""Which run a word names: a folder or a file, the name of a run, or ``last``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from wsol.errors import InputError, near_matches
from wsol.runs.outputs import MARKER
from wsol.runs.register import CONFIG_FILE, modified, read_run, recorded_folders

LAST = "last"
"""Names the newest run of all."""


def find_run(word: str, runs_dir: str | Path = "runs") -> Path:
    """Return the path that a word names.

    Args:
        word: a folder or a file; else a folder below ``runs_dir``, or a name that runs have recorded, which means the
            newest of them; or ``last``, the newest run of all.
        runs_dir: where run folders lie.

    Raises:
        InputError: there is no such run; near names are offered.

    Example:
        >>> find_run("demo-cam", "/nowhere")
        Traceback (most recent call last):
        wsol.errors.InputError: demo-cam: no such file or folder, and no run of that name in /nowhere; there are no runs
    """
    runs_dir = Path(runs_dir)
    if word == LAST:
        if (newest := _newest(run_folders(runs_dir))) is None:
            raise InputError(f"{LAST}: there are no runs in {runs_dir}; set their folder: runs_dir=...")
        return newest
    given, below = Path(word), runs_dir / word
    if os.path.lexists(given):
        return given
    if (below / CONFIG_FILE).exists() or below.is_file():
        return below
    if (newest := _newest(run_folders(below))) is not None:
        return newest
    if len(given.parts) > 1 or given.suffix:  # a path: the code that reads it reports best what is missing
        return given
    named: dict[str, list[Path]] = {}
    for folder in run_folders(runs_dir):
        named.setdefault(_name(folder), []).append(folder)
    if (newest := _newest(named.get(word, ()))) is not None:
        return newest
    names = {*named, *(folder.relative_to(runs_dir).parts[0] for group in named.values() for folder in group)} - {""}
    there = near_matches(word, names).replace("Choices", "Runs") if names else "there are no runs"
    raise InputError(f"{word}: no such file or folder, and no run of that name in {runs_dir}; {there}")


def run_folders(top: Path) -> Iterator[Path]:
    """Yield the runs below a folder (of `wsol train`, `ae`, `regress` and `convert`), without parts and evaluations."""
    last = None
    for folder in recorded_folders(top):
        if last is not None and folder.is_relative_to(last):
            continue  # a part of that run, such as a round of `wsol ae`
        last = folder
        if (folder / "checkpoints").is_dir() or not (folder / MARKER).exists():
            yield folder


def _newest(folders: Iterable[Path]) -> Path | None:
    """Return the run that was started or resumed last."""
    return max(folders, key=lambda folder: (modified(folder), str(folder)), default=None)


def _name(folder: Path) -> str:
    """Return the name that a run recorded; empty if it cannot be read."""
    try:
        return str(read_run(folder).config.get("name") or "")
    except InputError:
        return ""
