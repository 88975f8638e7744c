"""`wsol show`: print the results of runs, and of other verbs' outputs, again as they were first printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from omegaconf import DictConfig

from wsol.cli import screen
from wsol.errors import InputError
from wsol.runs.outputs import written_by
from wsol.runs.results import read_results

RESULTS = "results.json"
PRINTED_BY = {"sweep": "sweep", "features svm": "svm", "features concept": "concept"}
"""The verbs that print their own results, and their modules."""


def run(config: DictConfig) -> int:
    """Show runs under a composed config; returns the exit code."""
    if not config.runs:
        raise InputError("which runs? wsol show RUN ..., such as wsol show last")
    found = [_found(Path(folder)) for folder in config.runs]
    if config.json:
        contents = [json.loads(file.read_text(encoding="utf-8")) for file, _ in found]
        print(json.dumps(contents[0] if len(contents) == 1 else contents, indent=2))
        return 0
    for file, show in found:
        show(file)
    return 0


def _found(folder: Path) -> tuple[Path, Callable[[Path], None]]:
    """Return the results file of a folder, and the function that prints it.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a run, its name, or last")
    file, verb = folder / RESULTS, written_by(folder)
    if (folder / "sweep.json").is_file():
        file, verb = folder / "sweep.json", "sweep"
    if not file.is_file():
        raise InputError(f"{folder}: no results ({file.name}); {_why(folder, verb)}")
    if verb in PRINTED_BY:
        show: Callable[[Path], None] = import_module(f"wsol.cli.verbs.{PRINTED_BY[verb]}").show
        return file, show
    read_results(file)
    return file, screen.results


def _why(folder: Path, verb: str | None) -> str:
    if verb is not None:
        return f"`wsol {verb}` wrote it, and its files are the results"
    if (folder / "config.yaml").is_file():
        return "the run is not finished: give its command again with resume=true"
    return "expected a run, or a folder that another verb wrote"
