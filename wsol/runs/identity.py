"""What makes two configs the same run: one rule for resume, tables, reports and searches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

NOT_COMPARED: Mapping[str, str] = {
    "name": "a title",
    "choices": "names of what the other keys hold in full",
    "runs_dir": "where the run lies",
    "run_dir": "where the run lies",
    "resume": "how it was started",
    "logger": "where results are logged",
    "data_dir": "place of the data, which its fingerprint identifies",
    "memory_format": "order of the values in memory",
    "compile": "the same arithmetic up to rounding",
    "checkpoint_every_steps": "only what is recorded",
    "on_nan": "how a training that diverges ends",
    "loader.num_workers": "order and augmentation depend only on seed, epoch and position",
    "loader.pin_memory": "speed",
    "loader.eval_batch_size": "every image is evaluated alone",
    "trainer.accelerator": "the same arithmetic up to rounding",
    "trainer.precision": "auto depends on the machine, so rounding depends on the machine in any case",
    "trainer.strategy": "how several devices share the work",
    "trainer.devices": "loader.batch_size is that of all processes together",
    "trainer.num_nodes": "loader.batch_size is that of all processes together",
    "trainer.plugins": "which program started the processes",
    "trainer.deterministic": "rounding",
    "trainer.benchmark": "speed",
    "trainer.log_every_n_steps": "only what is recorded",
    "trainer.profiler": "only what is recorded",
    "trainer.enable_progress_bar": "only what is shown",
    "trainer.enable_model_summary": "only what is shown",
}
"""Keys, or groups of keys, that do not change the results of a run, and the reasons."""

GATHERED = frozenset({"seed", "protocol", "topk", "pseudo", "pseudo_boxes"})
"""Keys in which the runs of one experiment may differ: a table combines seeds, and results name their protocols and who
made their pseudo targets and pseudo boxes."""

DATA_PATHS = ("root", "_root", "_dir", "boxes", "archive")
"""Suffixes of dataset keys that contain paths; the images' fingerprint shows whether two runs had the same data."""

SHOWN = 8
"""Maximum number of differing keys that are named."""


class Difference(NamedTuple):
    """A key in which two configs differ."""

    key: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key}: {_short(self.before)} -> {_short(self.now)}"


def flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a plain config with dotted keys; lists and empty mappings are values.

    Example:
        >>> flat({"a": {"b": 1, "c": {}}, "d": [2]})
        {'a.b': 1, 'a.c': {}, 'd': [2]}
    """
    return dict(_flat(node, prefix))


def _flat(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def of_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a config with dotted keys that identifies a run.

    Example:
        >>> of_run({"seed": 1, "name": "x", "loader.num_workers": 2, "data.root": "/a", "data.names": "/a/n.txt"})
        {'seed': 1, 'data.names': 'n.txt'}
    """
    return {
        key: _without_place(value) if key.startswith("data.") else value
        for key, value in config.items()
        if _is_compared(key)
    }


def of_experiment(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a config with dotted keys that identifies an experiment: `of_run` without `GATHERED`.

    Example:
        >>> of_experiment({"seed": 1, "protocol.cam2016.frame": "image", "optim.lr": 0.1})
        {'optim.lr': 0.1}
    """
    return {key: value for key, value in of_run(config).items() if key.partition(".")[0] not in GATHERED}


def data_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a dataset that contain paths."""
    return {key: value for key, value in config.items() if _is_data_path(key)}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Return the differences of two configs with dotted keys; a missing key counts as null.

    Example:
        >>> [str(each) for each in differences({"a": 64, "b": None}, {"a": 32})]
        ['a: 64 -> 32']
    """
    keys = sorted(before.keys() | now.keys())
    return [Difference(k, before.get(k), now.get(k)) for k in keys if before.get(k) != now.get(k)]


def described(found: list[Difference]) -> str:
    """Describe the differences in one phrase, the first few in full."""
    more = len(found) - SHOWN
    return ", ".join(map(str, found[:SHOWN])) + (f" and {more} more keys" if more > 0 else "")


@lru_cache(maxsize=20_000)
def _is_compared(key: str) -> bool:
    parts = key.split(".")
    above = (".".join(parts[: i + 1]) for i in range(len(parts)))
    return not _is_data_path(key) and not any(part in NOT_COMPARED for part in above)


def _is_data_path(key: str) -> bool:
    return key.startswith("data.") and key.endswith(DATA_PATHS)


def _without_place(value: Any) -> Any:
    """Return a file that a dataset reads besides its images, without its folder."""
    if isinstance(value, str) and ("/" in value or "\\" in value):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute():
                return kind(value).name
    return value


def _short(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
