"""Find the finished runs of an experiment in a folder by their recorded configs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wsol.engine import image_results
from wsol.errors import InputError
from wsol.runs import identity
from wsol.runs.evaluations import evaluation_folders, is_of_same_network
from wsol.runs.identity import Difference
from wsol.runs.register import Register
from wsol.runs.results import read_results

BORROWED = "borrowed"
"""Stands for the classes of any other classifier, in a row's ``classes``."""

ANY = "any"
"""Stands for the network's own and all other classes, for results that do not depend on them."""

NEAR = 4
"""Largest number of differing keys with which a run is still mentioned as a near match."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    config: Mapping[str, Any]
    """The values that identify its experiment, by dotted key: see `wsol.runs.identity.of_experiment`."""
    seed: int
    finished: float
    """Time of its results, seconds."""

    register: Register
    """The register that found it, which also records unreadable files."""

    experiment: str | None = None
    """The experiment that started it, if any."""

    @cached_property
    def _evaluated(self) -> list[tuple[Path, Mapping[str, Any]]]:
        """Return the folders with results of this network on these images, the run's own first, and the results."""
        own = read_results(self.folder / "results.json")
        found: list[tuple[Path, Mapping[str, Any]]] = [(self.folder, own)]
        for folder in evaluation_folders(self.folder):
            file = folder / "results.json"
            try:
                other = read_results(file)
            except InputError as error:
                self.register.pass_over(file, error)
                continue
            if is_of_same_network(own, other):
                found.append((folder, other))
        return found

    @cached_property
    def is_readable(self) -> bool:
        """Whether its results can be read; if not, the register records why."""
        try:
            return bool(self._evaluated)
        except InputError as error:
            self.register.pass_over(self.folder / "results.json", error)
            return False

    def results(self, classes: str | None = None) -> dict[str, Any]:
        """Return its results, including those of `wsol eval` of the same checkpoint on the same data.

        Args:
            classes: name of the classifier whose classes replaced its own (`wsol eval classes=...`); `BORROWED`: the
                one of its newest evaluation with classes of another; `ANY`: all evaluations.

        Raises:
            InputError: results.json is corrupt.
        """
        parts = [part for _, part in self._with_classes(classes)]
        if not parts:
            return {**self._evaluated[0][1], "localization": [], "classification": {}, "pixels": {}}
        rows: dict[tuple[str, ...], Any] = {}
        for row in (row for part in parts for row in part["localization"]):
            rows.setdefault((row["protocol"], row["split"], row["maps"], row["threshold_origin"]), row)
        return {**parts[0], "localization": list(rows.values())}

    def _with_classes(self, classes: str | None) -> list[tuple[Path, Mapping[str, Any]]]:
        """Return the folders with results with these classes, see `results`."""
        if classes == ANY:
            return self._evaluated
        names = [(part.get("classes") or {}).get("name") for _, part in self._evaluated]
        if classes == BORROWED:
            classes = next((name for name in reversed(names) if name is not None), BORROWED)
        return [found for found, name in zip(self._evaluated, names, strict=True) if name == classes]

    def wrong(
        self, split: str, name: str, protocol: str | None, origin: str | None, classes: str | None = None
    ) -> image_results.ImageErrors | None:
        """Return the error of each image, see `wsol.engine.image_results.read`, from the first folder that has it.

        An unreadable file is ignored; the register records why.
        """
        for folder, _ in self._with_classes(classes):
            try:
                found = image_results.read(folder, split, name, protocol, origin)
            except InputError as error:
                self.register.pass_over(folder / image_results.FILE, error)
                continue
            if found is not None:
                return found
        return None


def collect(runs: Path | Register) -> list[Run]:
    """Return all finished runs of `wsol train` below a folder, oldest first.

    Unreadable runs are ignored and recorded by the register's `note`.
    """
    register = runs if isinstance(runs, Register) else Register(runs)
    found = []
    for run in register.finished():
        seed, experiment = run.config.get("seed"), run.config.get("choices.experiment")
        if isinstance(seed, int):
            try:
                finished = (run.folder / "results.json").stat().st_mtime
            except OSError as error:  # it was removed in the meantime
                register.pass_over(run.folder / "results.json", error)
                continue
            wanted = identity.of_experiment(run.config)
            found.append(Run(run.folder, wanted, seed, finished, register, str(experiment) if experiment else None))
    return sorted(found, key=lambda run: (run.finished, str(run.folder)))


def comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a plain, nested config that identify the experiment, by dotted key.

    Example:
        >>> comparable({"seed": 1, "data": {"_target_": "x.Y", "root": "/a"}, "optim": {"lr": 0.1}})
        {'data._target_': 'x.Y', 'optim.lr': 0.1}
    """
    return identity.of_experiment(identity.flat(config))


def matching(runs: Sequence[Run], wanted: Mapping[str, Any]) -> dict[int, Run]:
    """Return the newest run of each seed whose config is ``wanted`` and whose results can be read.

    Raises:
        InputError: two of them evaluated different images.
    """
    same = [run for run in runs if not identity.differences(run.config, wanted) and run.is_readable]
    newest = {run.seed: run for run in same}  # runs come oldest first
    _one_dataset(list(newest.values()))
    return dict(sorted(newest.items()))


def nearest(runs: Sequence[Run], wanted: Mapping[str, Any]) -> tuple[Run, list[Difference]] | None:
    """Return the run that differs from ``wanted`` in the fewest keys, at most `NEAR`, and those keys."""
    rated = [(identity.differences(run.config, wanted), run) for run in reversed(runs)]
    found, run = min(rated, key=lambda pair: len(pair[0]), default=([], None))
    return (run, found) if run is not None and 0 < len(found) <= NEAR else None


def _one_dataset(runs: Sequence[Run]) -> None:
    """Refuse runs of one experiment with different test images.

    Their training images may differ: they depend on the seed if validation images are held out from them.
    """
    first: dict[str, Run] = {}
    for run in runs:
        if about := run.results()["data"].get("splits", {}).get("test"):
            first.setdefault(about["fingerprint"], run)
    if len(first) > 1:
        one, other, *_ = first.values()
        raise InputError(
            f"{one.folder} and {other.folder} are runs of one experiment, but their test splits are not the same data "
            "(fingerprints differ): move the unwanted run out of the runs folder"
        )
