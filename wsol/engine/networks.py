"""The network of a command line: that of a run, or a classifier of torchvision or timm."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from wsol.config import build
from wsol.config.compose import compose
from wsol.errors import InputError
from wsol.explain.base import Explainer
from wsol.models.localizer import Localizer
from wsol.runs import checkpoints


@dataclass(frozen=True)
class Network:
    """A network with its config and origin."""

    localizer: Localizer
    """The localizer, or a plain classifier, see `wsol.models.classifier`."""
    trained: DictConfig
    """The config it was trained with; for a plain classifier the defaults, without a dataset."""
    title: str
    """Its name in results."""
    folder: Path
    """Default folder of evaluations and predictions."""
    file: Path | None = None
    """The checkpoint, if there is one."""

    def sha256(self) -> str | None:
        """Return the digest (hex) of the checkpoint; None without one."""
        return None if self.file is None else hashlib.sha256(self.file.read_bytes()).hexdigest()

    @property
    def has_maps(self) -> bool:
        """Whether it makes class maps itself; a plain classifier needs an explainer."""
        return isinstance(self.localizer, Localizer)


def find(config: DictConfig, example: str) -> Network:
    """Load the network of ``run`` or ``model``.

    Args:
        config: config of the verb; has ``run``, ``checkpoint``, ``model``, ``name``, ``weights``, ``trust``,
            ``runs_dir``.
        example: a command line for the error message if neither is set.

    Raises:
        InputError: neither or both are set, or the network cannot be loaded.
    """
    if config.model is not None:
        if config.run is not None:
            raise InputError("set run=... or model=..., not both")
        return _plain(config)
    for key in ("name", "weights"):
        if config[key] is not None:
            raise InputError(f"{key}={config[key]}: requires model=torchvision or model=timm; a run has its own")
    if config.run is None:
        raise InputError(f"which run? {example}, or model=torchvision name=resnet50 weights=DEFAULT")
    file = checkpoints.find(Path(config.run), config.checkpoint)
    checkpoint = checkpoints.read(file)
    localizer, trained = checkpoints.load_localizer(checkpoint, file, trust=config.trust)
    guard(trained, config, file)
    folder = file.parent.parent if file.parent.name == "checkpoints" else file.with_suffix("")
    return Network(localizer, trained, str(file), folder, file)


def _plain(config: DictConfig) -> Network:
    classifier = build.instantiate(config.model, "model")
    title = f"{config.choices.model}-{config.name}"
    trained = compose("train", [])
    OmegaConf.set_struct(trained, False)
    trained.update({"name": title, "data": None, "backbone": None, "method": None, "choices": {}})
    return Network(
        cast(Localizer, classifier), trained, f"{title}-{config.weights or 'random'}", Path(config.runs_dir) / title
    )


def explainer(config: DictConfig) -> Explainer | None:
    """Return the explainer of the command line; None for the localizer's own maps."""
    return None if config.explainer is None else build.instantiate(config.explainer, "explainer")


def guard(trained: DictConfig, config: DictConfig, file: Path) -> None:
    """Refuse a checkpoint's config that names forbidden objects, in every part that is built from it here.

    Its backbone and method were checked when the localizer was built; choices of the command line are trusted.
    """
    keys = [key for key in ("data", "transform", "loader", "protocol") if config.get(key) is None]
    build.check_parts(trained, keys, file, trust=config.trust)


def rebase(value: Any, before: str, now: str) -> Any:
    """Return a path below folder ``before`` as the same path below ``now``; anything else unchanged."""
    if isinstance(value, str) and before and Path(value).is_relative_to(before):
        return str(Path(now) / Path(value).relative_to(before))
    return value
