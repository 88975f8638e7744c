"""The root of each verb's config: unknown keys and wrong types are refused by these classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore


def _key(default: Any, about: str) -> Any:
    """A config key with its default and the sentence that `--help` prints."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"help": about})
    return field(default=default, metadata={"help": about})


def _group() -> Any:
    """A config group: its keys and values come from the YAML file chosen."""
    return field(default=None, metadata={})


@dataclass
class Train:
    """`wsol train`."""

    name: str | None = _key(None, "name of the run; default <data>-<method>-<backbone>")
    seed: int = _key(0, "of the weights, the order of the images, and every draw")
    data_dir: str = _key("data", "where datasets lie, and where the embedded one is generated")
    runs_dir: str = _key("runs", "where run folders go")
    run_dir: str | None = _key(None, "this run's folder; default <runs_dir>/<name>/<date and time>")
    resume: Any = _key(False, "true: go on with the newest run of this very config, or start one; or a run folder")
    image_size: int | None = _key(None, "side of the network's input, pixels; default what the weights expect")
    topk: list[int] = _key([1, 5], "which top-k errors to report")
    monitor: str | None = _key(
        "val/top1_error", "metric on the val split that chooses the best checkpoint; null: the last"
    )
    label_smoothing: float = _key(0.0, "share of the target spread evenly over all classes")
    memory_format: str = _key("auto", "channels_last, contiguous, or auto")
    choices: dict[str, Any] = field(default_factory=dict)
    data: Any = _group()
    transform: Any = _group()
    loader: Any = _group()
    backbone: Any = _group()
    method: Any = _group()
    protocol: Any = _group()
    optim: Any = _group()
    schedule: Any = _group()
    trainer: Any = _group()
    logger: Any = _group()


@dataclass
class Eval:
    """`wsol eval`."""

    run: str | None = _key(None, "run folder of `wsol train`, or a checkpoint file")
    checkpoint: str = _key("best", "best, last, or the name of a file in the run's checkpoints")
    split: str = _key("test", "the split to judge: test or val")
    out: str | None = _key(None, "folder of results.json; default <run folder>/eval/<date and time>")
    data_dir: str | None = _key(None, "where datasets lie; default as in the run")
    batch_size: int | None = _key(None, "default as in the run")
    num_workers: int | None = _key(None, "default as in the run")
    image_size: int | None = _key(None, "default as in the run")
    topk: list[int] | None = _key(None, "which top-k errors to report; default as in the run")
    on_bad_image: str | None = _key(None, "stop or skip; default as in the run")
    trust: bool = _key(False, "build objects of any package that the checkpoint's config names")
    choices: dict[str, Any] = field(default_factory=dict)
    data: Any = _group()
    transform: Any = _group()
    protocol: Any = _group()
    trainer: Any = _group()


@dataclass
class DataVerify:
    """`wsol data verify`."""

    data_dir: str = _key("data", "where datasets lie")
    deep: bool = _key(False, "decode every image, not only its header")
    choices: dict[str, Any] = field(default_factory=dict)
    data: Any = _group()
    transform: Any = _group()


VERBS = {"train": Train, "eval": Eval, "data_verify": DataVerify}


def register() -> None:
    """Make the classes known to Hydra as ``schema/<verb>``."""
    store = ConfigStore.instance()
    for name, node in VERBS.items():
        store.store(group="schema", name=name, node=node, package="_global_")
