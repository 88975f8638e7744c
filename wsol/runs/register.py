"""The register of runs: the runs below a folder, and the run that belongs to a config.

A run is identified by the config that it recorded, regardless of its folder's name. A small JSON file beside
config.yaml has the same content and is read in a tenth of a millisecond; it is only valid as long as it matches
config.yaml.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from wsol.data.regular_files import open_regular
from wsol.errors import InputError, first_line
from wsol.files import atomic_file
from wsol.runs import identity
from wsol.runs.identity import Difference
from wsol.runs.plain_yaml import MAX_BYTES, read_mapping
from wsol.runs.results import read_results

log = logging.getLogger("wsol")

CONFIG_FILE = "config.yaml"
KEY_FILE = ".wsol-run.json"
VERSION = 1
"""Version of the key file."""


@dataclass(frozen=True)
class RecordedRun:
    """A run folder and its recorded data."""

    folder: Path
    config: Mapping[str, Any]
    """Plain config with dotted keys."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Fingerprint by split, recorded at the start of training; empty if unknown."""

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The part of the config that identifies the run, see `wsol.runs.identity`."""
        return identity.of_run(self.config)

    @property
    def is_finished(self) -> bool:
        """Whether it has results."""
        return (self.folder / "results.json").is_file()

    def fingerprints(self) -> Mapping[str, str]:
        """Return the known fingerprints of its splits, from the key file or from its results."""
        for part in ("round0", "regressor"):  # of a run of `wsol ae` or `wsol regress`
            if known := self.data or _recorded_data(self.folder / part):
                return known
        try:
            splits = read_results(self.folder / "results.json")["data"].get("splits", {})
        except InputError:
            return {}
        return {name: about["fingerprint"] for name, about in splits.items() if name == "test"}


@dataclass(frozen=True)
class Match:
    """The result of searching the register for a config."""

    run: Path | None
    """The newest run with this config."""
    nearest: Path | None = None
    """If there is none: the run that differs in the fewest keys."""
    differing: tuple[Difference, ...] = ()
    """The keys in which that run differs."""
    not_compared: tuple[Difference, ...] = ()
    """The keys in which the found run differs without being another run, such as ``loader.num_workers``."""


class Register:
    """The runs below a folder, read once.

    Folders that cannot be read as runs are skipped; `note` names them.

    Args:
        runs_dir: where run folders lie, at any depth; it need not exist.
        only: the run folders to read; None: all below ``runs_dir``.
    """

    def __init__(self, runs_dir: Path, only: Sequence[Path] | None = None) -> None:
        self.runs_dir, self._only = runs_dir, only
        self.passed_over: dict[Path, str] = {}
        """File -> why it was skipped."""

    @cached_property
    def runs(self) -> list[RecordedRun]:
        """Return all runs, finished or not, sorted by path."""
        found = []
        for folder in recorded_folders(self.runs_dir) if self._only is None else self._only:
            try:
                found.append(read_run(folder))
            except InputError as error:
                self.pass_over(folder / CONFIG_FILE, error)
        return found

    def finished(self) -> list[RecordedRun]:
        """Return the runs of `wsol train` that have results, sorted by path; the results are not read."""
        return [run for run in self.runs if run.is_finished and (run.folder / "checkpoints").is_dir()]

    def find(self, config: Mapping[str, Any], fingerprints: Callable[[], Mapping[str, str]] | None = None) -> Match:
        """Find the run that belongs to a config.

        Args:
            config: plain config with dotted keys.
            fingerprints: returns the fingerprints of the config's data by split; only called if a run is the same
                except for the paths of its data.
        """
        wanted, now = identity.of_run(config), _CachedFingerprints(fingerprints)
        rated: list[tuple[int, float, RecordedRun, list[Difference]]] = []
        for run in self.runs:
            found = identity.differences(run.identity, wanted)
            rated.append((len(found), -modified(run.folder), run, found))
        rated.sort(key=lambda each: each[:2])
        others = []
        for count, age, run, found in rated:
            if not count and not (found := other_data(run, config, now)):
                return Match(run.folder, not_compared=tuple(_without_places(run.config, config)))
            others.append((len(found), age, run, found))
        if not others:
            return Match(None)
        *_, run, found = min(others, key=lambda each: each[:2])
        return Match(None, run.folder, tuple(found))

    def pass_over(self, file: Path, error: Exception) -> None:
        """Record a file that is damaged or not part of a run."""
        self.passed_over[file] = first_line(error).removeprefix(f"{file}: ")

    def note(self) -> str | None:
        """Return one sentence about skipped files; None if nothing was skipped."""
        if not self.passed_over:
            return None
        named = [f"{file}: {why}" for file, why in sorted(self.passed_over.items())]
        more = f"; and {len(named) - 5} more" if len(named) > 5 else ""
        return f"skipped, because they cannot be read as runs: {'; '.join(named[:5])}{more}"


class _CachedFingerprints:
    """Fingerprints that are computed once, on first use."""

    def __init__(self, make: Callable[[], Mapping[str, str]] | None) -> None:
        self._make = make
        self._found: dict[str, str] | None = None

    def __call__(self) -> Mapping[str, str]:
        if self._found is None:
            self._found = dict(self._make()) if self._make else {}
        return self._found


def other_data(run: RecordedRun, config: Mapping[str, Any], fingerprints: Callable[[], Mapping[str, str]]) -> list:
    """Return the paths in which the data of a run and of a config differ; empty if the data are the same.

    They are the same if each path is the same file, or if the recorded fingerprints equal those of the present data.
    """
    before, now = identity.data_paths(run.config), identity.data_paths(config)
    found = [each for each in identity.differences(before, now) if not _same_place(each.before, each.now)]
    if not found:
        return []
    known = run.fingerprints()
    common = known.keys() & fingerprints().keys() if known else set()
    return [] if common and all(known[name] == fingerprints()[name] for name in common) else found


def record(folder: Path, config: DictConfig) -> None:
    """Record the resolved config of a run at its start: config.yaml and the key file."""
    text = OmegaConf.to_yaml(config, resolve=True)
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    with atomic_file(folder / CONFIG_FILE) as file:
        file.write_text(text, encoding="utf-8", newline="\n")
    _write_key(folder, text.encode(), identity.flat({str(k): v for k, v in plain.items()}), _recorded_data(folder))


def record_data(folder: Path, fingerprints: Mapping[str, str]) -> None:
    """Record the training data of a run, or compare them with the data recorded when the run began.

    Raises:
        InputError: the data differ.
    """
    before = _recorded_data(folder)
    other = sorted(name for name in before.keys() & fingerprints.keys() if before[name] != fingerprints[name])
    if other:
        raise InputError(
            f"{folder}: that run began with other data: images, labels or boxes of {', '.join(other)} are not those "
            "recorded (fingerprints differ); use the data it began with, or choose another run_dir"
        )
    config, content = read_mapping(folder / CONFIG_FILE)
    _write_key(folder, content, identity.flat(config), fingerprints)


def read_run(folder: Path) -> RecordedRun:
    """Read the recorded data of a run.

    Raises:
        InputError: no config.yaml, or it cannot be read.
    """
    key, file = _read_key(folder), folder / CONFIG_FILE
    data = key.get("data") or {}
    if key:
        try:
            with open_regular(file) as stream:
                content = stream.read(MAX_BYTES)
        except OSError as error:
            raise InputError(f"{file}: unreadable ({first_line(error)})") from error
        if hashlib.sha256(content).hexdigest() == key["config_sha256"]:
            return RecordedRun(folder, key["config"], data)
    config, _ = read_mapping(file)
    return RecordedRun(folder, identity.flat(config), data)


def _write_key(folder: Path, config: bytes, plain: Mapping[str, Any], data: Mapping[str, str]) -> None:
    content = {
        "version": VERSION,
        "config_sha256": hashlib.sha256(config).hexdigest(),
        "data": dict(data),
        "config": plain,
    }
    with atomic_file(folder / KEY_FILE) as file:
        file.write_text(json.dumps(content, default=str) + "\n", encoding="utf-8")


def _read_key(folder: Path) -> dict[str, Any]:
    """Return the key file; empty if it is missing or invalid."""
    try:
        with open_regular(folder / KEY_FILE) as stream:
            content = json.loads(stream.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict) or content.get("version") != VERSION:
        return {}
    data = content.get("data")
    is_data = isinstance(data, dict) and all(isinstance(value, str) for value in data.values())
    good = is_data and isinstance(content.get("config"), dict) and isinstance(content.get("config_sha256"), str)
    return content if good else {}


def _recorded_data(folder: Path) -> Mapping[str, str]:
    return _read_key(folder).get("data") or {}


def recorded_folders(top: Path) -> Iterator[Path]:
    """Yield the folders with a recorded config, without those within a run of `wsol train`, such as its evaluations."""
    for place, folders, files in os.walk(top):
        has_config = CONFIG_FILE in files
        if has_config:
            yield Path(place)
        is_run = has_config and "checkpoints" in folders
        folders[:] = [] if is_run else sorted(name for name in folders if not name.startswith("."))


def _without_places(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Return the differing keys of two configs of one run that are reported."""
    found = identity.differences(before, now)
    quiet = ("name", "choices", "runs_dir", "run_dir", "resume", "logger", "data_dir")
    return [each for each in found if each.key.partition(".")[0] not in quiet]


def _same_place(before: Any, now: Any) -> bool:
    if isinstance(before, str) and isinstance(now, str):
        return os.path.realpath(before) == os.path.realpath(now)
    return before == now


def modified(folder: Path) -> float:
    """Return when a run was started or resumed, seconds since the epoch; 0 if it was removed."""
    try:
        return (folder / CONFIG_FILE).stat().st_mtime
    except OSError:  # it was removed meanwhile
        return 0.0
