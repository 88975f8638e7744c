"""The runs below a folder, one summary each, as `wsol list` prints them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from wsol.errors import InputError
from wsol.runs.lookup import run_folders
from wsol.runs.register import Register, modified, read_run
from wsol.runs.results import LOCALIZER

CHOICES = ("method", "backbone", "data")


@dataclass(frozen=True)
class RunSummary:
    """The summary of a run."""

    name: str
    time: datetime.datetime
    """When it was started or resumed, local time."""
    method: str
    backbone: str
    data: str
    seed: int | None
    folder: Path
    is_finished: bool
    results: Mapping[str, float]
    """Main errors, percent: ``gt_known_error`` and ``top1_error`` of `protocol`, ``classification`` (top-1)."""
    protocol: str | None
    """Protocol and origin of the threshold of the localization errors, such as ``cam2016 fixed``."""

    def matches(self, pattern: str) -> bool:
        """Return whether a shell pattern fits the name, the folder or a choice; plain text may be any part of these.

        Example:
            >>> now = datetime.datetime(2026, 1, 31)
            >>> one = RunSummary("demo-cam", now, "cam", "tiny", "creatures", 0, Path("runs/a"), False, {}, None)
            >>> one.matches("demo*"), one.matches("cam"), one.matches("*acol*")
            (True, True, False)
        """
        texts = (self.name, self.folder.as_posix(), self.method, self.backbone, self.data)
        has_wildcards = any(letter in pattern for letter in "*?[")
        return any(fnmatchcase(text, pattern) if has_wildcards else pattern in text for text in texts)


def summaries(register: Register, patterns: Sequence[str] = ()) -> list[RunSummary]:
    """Return the runs of a register that match one of the patterns, the newest last.

    Runs that cannot be read are skipped, and `Register.note` names them.

    Args:
        register: register of the runs; they are read here.
        patterns: as `RunSummary.matches` takes them; none: all runs.

    Example:
        >>> summaries(Register(Path("/nowhere")))
        []
    """
    found = []
    for folder in run_folders(register.runs_dir):
        try:
            one = _summary(folder)
        except InputError as error:
            register.pass_over(folder / "config.yaml", error)
            continue
        if not patterns or any(one.matches(pattern) for pattern in patterns):
            found.append(one)
    return sorted(found, key=lambda one: (one.time, str(one.folder)))


def _summary(folder: Path) -> RunSummary:
    config = read_run(folder).config
    method, backbone, data = (str(config.get(f"choices.{key}") or "-") for key in CHOICES)
    is_finished, results, protocol = _results(folder / "results.json")
    seed = config.get("seed")
    return RunSummary(
        name=str(config.get("name") or folder.name),
        time=datetime.datetime.fromtimestamp(modified(folder)),
        method=method,
        backbone=backbone,
        data=data,
        seed=seed if isinstance(seed, int) else None,
        folder=folder,
        is_finished=is_finished,
        results=results,
        protocol=protocol,
    )


def _results(file: Path) -> tuple[bool, dict[str, float], str | None]:
    """Return whether there are results, the main errors, and their protocol; a file that cannot be read has none."""
    try:
        content = json.loads(file.read_bytes())
        rows, classification = content["localization"], content["classification"]
        split = next(reversed(classification), "test")
        own = [row for row in rows if (row["split"], row["maps"]) == (split, LOCALIZER)]
        found = {key: own[0][key] for key in ("gt_known_error", "top1_error") if own and key in own[0]}
        found["classification"] = (classification.get(split) or {}).get("top1_error")
        named = f"{own[0]['protocol']} {own[0]['threshold_origin']}" if own else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return file.exists(), {}, None
    return True, {key: value for key, value in found.items() if isinstance(value, int | float)}, named
