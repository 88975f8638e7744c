"""Finished runs in a folder, and which of them stand for an experiment, told by their recorded config alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wsol.errors import InputError, first_line

UNCOMPARED = frozenset(
    {
        "name",
        "seed",
        "choices",
        "data_dir",
        "runs_dir",
        "run_dir",
        "resume",
        "logger",
        "protocol",
        "topk",
        "memory_format",
        "loader.num_workers",
        "loader.pin_memory",
        "loader.eval_batch_size",
        "trainer.accelerator",
        "trainer.precision",
        "trainer.strategy",
        "trainer.log_every_n_steps",
        "trainer.deterministic",
    }
)
"""Keys that say where, how fast and how verbosely a run was made, not what was trained; seeds are gathered."""

NOT_PARSED = ("protocol:", "choices:")
"""Sections of config.yaml that are not compared and need not be read; results.json names the protocols."""

PATHS = ("root", "_root", "_dir", "boxes", "archive")
"""Keys of a dataset that end so hold paths; the data's fingerprint says whether two runs had the same images."""

NEAR = 4
"""A run that differs in no more keys than this is offered as nearly the one looked for."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    config: Mapping[str, Any]
    """What makes it this experiment, keys dotted: see `comparable`."""
    seed: int
    finished: float
    """Time of its results, seconds."""

    def results(self) -> dict[str, Any]:
        """What it measured, `wsol eval` of the same checkpoint and the same data included.

        Raises:
            InputError: results.json is corrupt.
        """
        own = read_results(self.folder / "results.json")
        for file in sorted(self.folder.glob("eval/*/results.json")):
            _add(own, read_results(file))
        return own


def collect(runs_dir: Path) -> list[Run]:
    """All finished runs of `wsol train` below a folder, oldest first; 1,000 of them in about a second.

    Raises:
        InputError: a config.yaml that is no YAML.
    """
    found = []
    for folder in _folders(runs_dir):
        config = _read_config(folder / "config.yaml")
        if isinstance(config.get("seed"), int):
            finished = (folder / "results.json").stat().st_mtime
            found.append(Run(folder, comparable(config), config["seed"], finished))
    return sorted(found, key=lambda run: (run.finished, str(run.folder)))


def _folders(top: Path) -> Iterator[Path]:
    """Folders with a config, results and checkpoints: those of `wsol train`."""
    for folder, folders, files in os.walk(top):
        is_run = "checkpoints" in folders and "config.yaml" in files
        if is_run and "results.json" in files:
            yield Path(folder)
        folders[:] = [] if is_run else sorted(folders)


def comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a plain config makes it the same experiment, keys dotted.

    Example:
        >>> comparable({"seed": 1, "data": {"_target_": "x.Y", "root": "/a"}, "optim": {"lr": 0.1}})
        {'data._target_': 'x.Y', 'optim.lr': 0.1}
    """
    flat = dict(_flat(config))
    return {
        key: value
        for key, value in flat.items()
        if not any(part in UNCOMPARED for part in _above(key)) and not (key.startswith("data.") and key.endswith(PATHS))
    }


def _above(key: str) -> list[str]:
    """The key and all that it lies in: ``a.b.c`` gives ``a``, ``a.b``, ``a.b.c``."""
    parts = key.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def differences(wanted: Mapping[str, Any], got: Mapping[str, Any]) -> list[str]:
    """The keys in which two comparable configs differ; a key that one of them lacks counts as null there."""
    return sorted(key for key in wanted.keys() | got.keys() if wanted.get(key) != got.get(key))


def matching(runs: Sequence[Run], wanted: Mapping[str, Any]) -> dict[int, Run]:
    """The newest run of each seed whose config is ``wanted``.

    Raises:
        InputError: two of them judged different images.
    """
    same = [run for run in runs if not differences(wanted, run.config)]
    newest = {run.seed: run for run in same}  # runs come oldest first
    _one_dataset(list(newest.values()))
    return dict(sorted(newest.items()))


def nearest(runs: Sequence[Run], wanted: Mapping[str, Any]) -> tuple[Run, list[str]] | None:
    """The run that differs from ``wanted`` in the fewest keys, at most `NEAR`, and those keys."""
    rated = [(differences(wanted, run.config), run) for run in reversed(runs)]
    keys, run = min(rated, key=lambda pair: len(pair[0]), default=([], None))
    return (run, keys) if run is not None and 0 < len(keys) <= NEAR else None


def _one_dataset(runs: Sequence[Run]) -> None:
    """Refuse runs of one experiment on data that differ."""
    seen: dict[str, tuple[str, Run]] = {}
    for run in runs:
        for split, about in run.results().get("data", {}).get("splits", {}).items():
            print_ = about["fingerprint"]
            # The training images depend on the seed where validation images are drawn from them.
            if split == "test" and seen.setdefault(split, (print_, run))[0] != print_:
                other = seen[split][1]
                raise InputError(
                    f"{other.folder} and {run.folder} are runs of one experiment, but their {split} splits are not the "
                    "same data (fingerprints differ): move the one that is not meant out of the runs folder"
                )


def read_results(file: Path) -> dict[str, Any]:
    """Read a results.json.

    Raises:
        InputError: it is corrupt.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file}: corrupt ({first_line(error)}); remove the file and repeat the command with resume=true"
        ) from error
    if not isinstance(content, dict) or not {"localization", "classification", "data"} <= content.keys():
        raise InputError(f"{file}: expected what `wsol train` writes (localization, classification, data)")
    return content


def _add(own: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Take over localizations that an evaluation of the same checkpoint, images and transforms adds."""
    same = (
        Path(other.get("checkpoint", {}).get("file", "")).name == Path(own.get("checkpoint", {}).get("file", "")).name
        and other["data"].get("splits", {}).get("test", {}).get("fingerprint")
        == own["data"].get("splits", {}).get("test", {}).get("fingerprint")
        and other.get("choices", {}).get("transform") == own.get("choices", {}).get("transform")
    )
    known = {(row["protocol"], row["split"]) for row in own["localization"]}
    if same:
        added = [row for row in other["localization"] if (row["protocol"], row["split"]) not in known]
        own["localization"] = [*own["localization"], *added]


def _read_config(file: Path) -> Mapping[str, Any]:
    """The parts of a config.yaml that are compared."""
    kept, skipping = [], False
    try:
        for line in file.read_text(encoding="utf-8").splitlines():
            if line[:1] not in (" ", "-"):
                skipping = line.startswith(NOT_PARSED)
            if not skipping:
                kept.append(line)
        content = yaml.load("\n".join(kept), Loader=LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"{file}: unreadable ({first_line(error)}); move that folder out of the runs folder"
        ) from error
    if not isinstance(content, Mapping):
        raise InputError(f"{file}: expected a mapping; move that folder out of the runs folder")
    return content


LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where it is there: ten times the speed."""
