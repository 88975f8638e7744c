"""The network that a command line names: that of a run, or a classifier of torchvision or timm."""

from __future__ import annotations

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
    """A network and what is known of it."""

    localizer: Localizer
    """Or a plain classifier in its place, see `wsol.models.classifier`."""
    trained: DictConfig
    """The config it was trained under; of a plain classifier the defaults, without a dataset."""
    title: str
    """What results call it."""
    folder: Path
    """Where evaluations and predictions go by default."""
    file: Path | None = None
    """The checkpoint, if there is one."""

    @property
    def has_maps(self) -> bool:
        """Whether it makes class maps itself; a plain classifier needs an explainer."""
        return isinstance(self.localizer, Localizer)


def find(config: DictConfig, example: str) -> Network:
    """Load the network of ``run`` or ``model``.

    Args:
        config: of the verb; has ``run``, ``checkpoint``, ``model``, ``name``, ``weights``, ``trust``, ``runs_dir``.
        example: a command line, for the message if there is neither.

    Raises:
        InputError: neither or both, or one that cannot be loaded.
    """
    if config.model is not None:
        if config.run is not None:
            raise InputError("run=... or model=..., not both")
        return _plain(config)
    for key in ("name", "weights"):
        if config[key] is not None:
            raise InputError(f"{key}={config[key]}: goes with model=torchvision or model=timm; a run has its own")
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
    """Refuse a checkpoint's config that names what it may not, in every part that is built from it here.

    Its backbone and method were guarded when the localizer was built; what the command line chose instead is trusted.
    """
    keys = [key for key in ("data", "transform", "loader", "protocol") if config.get(key) is None]
    build.check_parts(trained, keys, file, trust=config.trust)


def moved(value: Any, before: str, now: str) -> Any:
    """A path below folder ``before`` as the same path below ``now``; anything else as it is."""
    if isinstance(value, str) and before and Path(value).is_relative_to(before):
        return str(Path(now) / Path(value).relative_to(before))
    return value
