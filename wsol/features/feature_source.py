"""A source of features: the network of a run or a bare backbone, with its dataset and its transform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from wsol.config import build
from wsol.data.source import Source, Split
from wsol.data.transforms import EvalTransform
from wsol.engine import networks
from wsol.engine.module import LocalizerModule
from wsol.errors import InputError, unknown
from wsol.features.extract import Extractor
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer
from wsol.protocols import LocalizationProtocol
from wsol.runs import checkpoints
from wsol.types import Progress, no_progress


@dataclass(frozen=True)
class FeatureSource:
    """A network for features, with its dataset."""

    extractor: Extractor
    settings: DictConfig
    """Config of the run, overridden by the command line; for a bare backbone the command line's."""
    title: str
    """Name of the network in results."""
    folder: Path
    """Default folder of results."""
    is_run: bool
    """Whether it was trained by this program, so that its classes and maps are meaningful."""
    trust: bool = True
    """Whether the dataset may come from any package: the command line names it, or the reader trusts it."""
    data_dir: str | None = None
    """Data folder from the command line; without trust, a dataset may only be generated below it."""

    @property
    def localizer(self) -> Localizer:
        """The network; the classes of a bare backbone are meaningless."""
        return self.extractor.module.localizer

    @property
    def transform(self) -> EvalTransform:
        """Makes the network's input from a stored image."""
        return self.extractor.transform

    def source(self) -> Source:
        """Return the dataset of the command line, or the run's own."""
        return build.build_source(self.settings, trust=self.trust, data_dir=self.data_dir)


def find(config: DictConfig, example: str, progress: Progress = no_progress) -> FeatureSource:
    """Load the network of ``run``, or of ``backbone`` if the verb has that group.

    Args:
        config: config of the verb; has ``run``, ``checkpoint``, ``trust``, ``image_size``, ``batch_size``,
            ``num_workers``, ``device``, and optionally ``point``, ``data``, ``transform``, ``backbone``, ``runs_dir``.
        example: a command line for the error message if there is no network.
        progress: called with the number of finished batches of a split.

    Raises:
        InputError: no network, two networks, or one that cannot be loaded.
    """
    if config.batch_size < 1:
        raise InputError(f"batch_size: expected at least 1, got {config.batch_size}")
    backbone, below = config.get("backbone"), config.get("data_dir")
    if config.run is not None and backbone is not None:
        raise InputError("set run=... or backbone=..., not both: a run has its own backbone")
    if config.run is not None:
        file = checkpoints.find(Path(config.run), config.checkpoint)
        localizer, trained = checkpoints.load_localizer(checkpoints.read(file), file, trust=config.trust)
        networks.guard(trained, config, file)
        settings = trained.copy()
        OmegaConf.set_struct(settings, False)
        if "data_dir" in config:
            settings = _with_data(settings, config)
        for key in ("transform", "image_size"):
            if config.get(key) is not None:
                settings[key] = config[key]
        title = str(file)
        folder = file.parent.parent if file.parent.name == "checkpoints" else file.with_suffix("")
    elif backbone is not None:
        if "data_dir" in config and config.data_dir is None:
            config.data_dir = "data"
        settings = config
        localizer = Localizer(build.instantiate(backbone, "backbone"), GapHead, num_classes=1)
        title = f"{config.choices.backbone}, weights {backbone.get('weights')}"
        folder = Path(config.runs_dir) / f"features-{config.choices.backbone}"
    else:
        also = ", or backbone=resnet50 backbone.weights=DEFAULT" if "backbone" in config else ""
        raise InputError(f"which network? {example}{also}")
    if settings.get("transform") is None:
        raise InputError("no transform: choose transform=square, or a dataset, which brings its own")
    transform = build.build_transform(settings, "eval", localizer.preprocessing, trust=True)
    found = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(found if config.device == "auto" else config.device)
    module = LocalizerModule(localizer, channels_last=True).to(device)
    extractor = Extractor(module, transform, config.get("point"), config.batch_size, config.num_workers, progress)
    trust = config.run is None or config.trust or config.get("data") is not None
    return FeatureSource(extractor, settings, title, folder, config.run is not None, trust, below)


def _with_data(settings: DictConfig, config: DictConfig) -> DictConfig:
    """Return the run's config with the dataset of the command line, or with the run's own below ``data_dir``."""
    before = settings.data_dir
    settings.data_dir = config.data_dir = before if config.data_dir is None else config.data_dir
    if config.data is not None:
        settings.data = OmegaConf.to_container(config.data, resolve=True)
    elif config.data_dir != before:
        settings.data = {key: networks.rebase(value, before, config.data_dir) for key, value in settings.data.items()}
    return settings


def part(source: Source, name: str) -> Split:
    """Return a split that the verb requires.

    Raises:
        InputError: the dataset does not have it.
    """
    if name not in source.splits:
        raise InputError(f"split {name!r}: the dataset has {', '.join(source.splits)} only; choose other data=...")
    return source.split(name)


def classes_asked(given: Sequence[int | str] | None, names: Sequence[str] | None, count: int) -> list[int]:
    """Return the labels of classes given by name or index; all labels if none is given.

    Raises:
        InputError: an unknown class.
    """
    if given is None:
        return list(range(count))
    index = {name: label for label, name in enumerate(names or ())}
    found = []
    for word in given:
        label = word if isinstance(word, int) else index.get(str(word))
        if label is None:
            raise unknown("class", str(word), index)
        if not 0 <= label < count:
            raise InputError(f"class {label}: expected a class of the network, 0..{count - 1}")
        found.append(label)
    return list(dict.fromkeys(found))


def one_protocol(config: DictConfig) -> LocalizationProtocol:
    """Return the protocol whose boxes are used.

    Raises:
        InputError: no protocol or several, a threshold out of range, or no threshold for a protocol without a
            fixed one.
    """
    found = list(build.build_protocols(config).values())
    if len(found) != 1:
        raise InputError(f"protocol: expected one protocol for the boxes, got {len(found)}")
    if config.threshold is not None and not 0 <= config.threshold < 1:
        raise InputError(f"threshold: expected a number in [0, 1), got {config.threshold}")
    if config.threshold is None and found[0].fixed_threshold is None and found[0].origins != ("fixed",):
        raise InputError(f"protocol={found[0].name} has no fixed threshold: set threshold=..., such as 0.2")
    return found[0]
