"""Finished runs in a folder, and which of them stand for an experiment, told by their recorded config alone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from wsol.engine import image_results
from wsol.errors import InputError, first_line
from wsol.files import is_hidden

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
        "on_nan",
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

    experiment: str | None = None
    """The one it was started by, if any."""

    @cached_property
    def _judged(self) -> list[tuple[Path, Mapping[str, Any]]]:
        """The folders that hold results of this network on these images, the run's own first, and what they say."""
        own = read_results(self.folder / "results.json")
        files = [file for file in sorted(self.folder.glob("eval/*/results.json")) if not is_hidden(file)]
        others = [(file.parent, read_results(file)) for file in files]
        return [(self.folder, own), *((folder, other) for folder, other in others if _same(own, other))]

    def results(self, classes: str | None = None) -> dict[str, Any]:
        """What it measured, `wsol eval` of the same checkpoint and the same data included.

        Args:
            classes: name of the classifier whose classes replaced its own (`wsol eval classes=...`).

        Raises:
            InputError: results.json is corrupt.
        """
        parts = [part for _, part in self._judged if part.get("classes", {}).get("name") == classes]
        if not parts:
            return {**self._judged[0][1], "localization": [], "classification": {}, "pixels": {}}
        rows: dict[tuple[str, str], list[Any]] = {}
        for part in parts:
            new: dict[tuple[str, str], list[Any]] = {}
            for row in part["localization"]:
                new.setdefault((row["protocol"], row["split"]), []).append(row)
            rows = {**rows, **{key: of_one for key, of_one in new.items() if key not in rows}}
        return {**parts[0], "localization": [row for of_one in rows.values() for row in of_one]}

    def wrong(
        self, split: str, name: str, protocol: str | None, origin: str | None, classes: str | None = None
    ) -> image_results.Wrong | None:
        """How wrong each image is, see `wsol.engine.image_results.read`; from the first folder that says so."""
        for folder, part in self._judged:
            if part.get("classes", {}).get("name") == classes:
                found = image_results.read(folder, split, name, protocol, origin)
                if found is not None:
                    return found
        return None


def collect(runs_dir: Path) -> list[Run]:
    """All finished runs of `wsol train` below a folder, oldest first; 1,000 of them in less than a second.

    Raises:
        InputError: a config.yaml that is no YAML.
    """
    found = []
    for folder in _folders(runs_dir):
        config, seed, experiment = _read_config(folder / "config.yaml")
        if seed is not None:
            finished = (folder / "results.json").stat().st_mtime
            found.append(Run(folder, config, seed, finished, experiment))
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


def _same(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether an evaluation is of the run's checkpoint, on its images, through its transform, by its own maps."""
    if len({results["image_size"] for results in (own, other) if "image_size" in results}) > 1:
        return False

    def about(results: Mapping[str, Any]) -> tuple[Any, ...]:
        chosen = results.get("choices") or {}
        test = results["data"].get("splits", {}).get("test", {}).get("fingerprint")
        file = Path(results.get("checkpoint", {}).get("file", "")).name
        return file, test, chosen.get("transform"), chosen.get("explainer"), chosen.get("model")

    return about(own) == about(other)


def _read_config(file: Path) -> tuple[dict[str, Any], int | None, str | None]:
    """What of a config.yaml is compared, the seed, and the experiment that was chosen."""
    try:
        text = file.read_text(encoding="utf-8")
        try:
            parts = [_parsed(section) for section in _sections(text)]
        except yaml.YAMLError:  # written by another hand; or the message is that of the whole
            parts = [_parsed(text)]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"{file}: unreadable ({first_line(error)}); move that folder out of the runs folder"
        ) from error
    if not parts or None in parts:
        raise InputError(f"{file}: expected a mapping; move that folder out of the runs folder")
    config: dict[str, Any] = {}
    seed = None
    for compared, found in (part for part in parts if part is not None):
        config.update(compared)
        seed = found if seed is None else seed
    chosen = re.search(r"^choices:\n(?: .*\n)*? +experiment: (.+)$", text, re.MULTILINE)
    return config, seed, chosen and chosen[1]


def _sections(text: str) -> Iterator[str]:
    """The top-level sections that are compared, as texts."""
    section: list[str] = []
    for line in [*text.splitlines(), "end:"]:
        if line[:1] not in ("", " ", "-", "#"):
            if section and not section[0].startswith(NOT_PARSED):
                yield "\n".join(section)
            section = []
        section.append(line)


@lru_cache(maxsize=10_000)
def _parsed(text: str) -> tuple[dict[str, Any], int | None] | None:
    """What is compared of a section and the seed if it has one; None if it is no mapping.

    Runs have most sections in common, and reading YAML is what takes time.
    """
    content = yaml.load(text, Loader=LOADER) or {}
    if not isinstance(content, Mapping):
        return None
    seed = content.get("seed")
    return comparable(content), seed if isinstance(seed, int) else None


LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where it is there: ten times the speed."""
