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
    save_maps: bool = _key(False, "keep the maps of all judged images in <out>/maps, for `wsol score`")
    maps_dtype: str = _key("auto", "of kept maps: float32, float16, uint8; auto is float32 up to 64 x 64, else uint8")
    trust: bool = _key(False, "build objects of any package that the checkpoint's config names")
    choices: dict[str, Any] = field(default_factory=dict)
    data: Any = _group()
    transform: Any = _group()
    protocol: Any = _group()
    trainer: Any = _group()


@dataclass
class Score:
    """`wsol score`."""

    maps: str | None = _key(None, "saved maps: folder of a run, of its evaluation, a map store, or .npy and .png files")
    val_maps: str | None = _key(
        None, "maps of the val split, to choose thresholds by; found beside maps"
    )
    against: str | None = _key(None, "a second set of maps of the same images, to compare with, image by image")
    split: str = _key("test", "the split that the maps are of")
    view: str = _key("whole", "what map files show: the whole image, or its centre crop (256, 224)")
    classes: str | None = _key(
        None, "CSV of classes (image_id,class,score) for top-k errors; a store has its own"
    )
    missing: str = _key("refuse", "what is done about images without a map: refuse or count_as_miss")
    topk: list[int] = _key([1, 5], "which top-k errors to report where classes are known")
    per_image: bool = _key(True, "write per_image.csv: every image's box, overlap and kind of error")
    baselines: bool = _key(True, "judge the predictions that need no network, too")
    data_dir: str | None = _key(None, "where datasets lie; default data, or as in the run")
    runs_dir: str = _key("runs", "where run folders go")
    out: str | None = _key(None, "folder of results.json; default <runs_dir>/score-<name of the maps>/<date and time>")
    trust: bool = _key(False, "build a dataset of any package that the run's config names")
    choices: dict[str, Any] = field(default_factory=dict)
    data: Any = _group()
    transform: Any = _group()
    protocol: Any = _group()


@dataclass
class DataVerify:
    """`wsol data verify`."""

    data_dir: str = _key("data", "where datasets lie")
    deep: bool = _key(False, "decode every image, not only its header")
    choices: dict[str, Any] = field(default_factory=dict)
    data: Any = _group()
    transform: Any = _group()


VERBS = {"train": Train, "eval": Eval, "score": Score, "data_verify": DataVerify}


def register() -> None:
    """Make the classes known to Hydra as ``schema/<verb>``."""
    store = ConfigStore.instance()
    for name, node in VERBS.items():
        store.store(group="schema", name=name, node=node, package="_global_")
