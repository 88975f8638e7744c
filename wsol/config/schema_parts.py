"""Parts of the configs in `wsol.config.schema` that have keys of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wsol.config.schema_fields import key as _key


@dataclass
class LocalizerStage:
    """The network of `wsol regress` that finds the pseudo boxes."""

    run: str | None = _key(None, "RUN to take: a run's folder, its name, last, or a checkpoint file; null: train one")
    train: list[str] = _key([], "overrides of `wsol train` for the network that is trained, such as method=acol")
    eval: list[str] = _key(
        [], "overrides of `wsol eval` that make the pseudo boxes: protocol=..., explainer=..., model=..."
    )


@dataclass
class Search:
    """The settings of `wsol sweep`; ``configs/sweep`` has ready-made ones."""

    metric: str = _key("val/top1_error", "metric of the val split that ranks trials and chooses their checkpoints")
    trials: int = _key(20, "total number of trials; a higher number later continues the study")
    workers: int = _key(1, "number of processes on this machine; other machines may join in the same folder")
    sampler: str = _key("random", "random or tpe")
    pruner: str = _key("none", "none, median or hyperband: stops unpromising trials")
    warmup_epochs: int = _key(1, "epochs before the first pruning")
    seed: int = _key(0, "seed of the sampler")
    storage: str = _key("sqlite", "sqlite or journal, both in the folder, or the URL of a database server")
    folder: str | None = _key(None, "folder of the study and its trials; default <runs_dir>/sweep-<choice>-<name>")
    test: bool = _key(False, "evaluate the best trial on the test split, once, at the end")
    overrides: list[str] = _key([], "overrides of `wsol train` for all trials")
    space: dict[str, Any] = _key({}, "keys of `wsol train`: {choice: [...]}, {range: [a, b]} or {log: [a, b]}")
