"""Conversion (`wsol convert`): from another program's weights to a checkpoint, and from a checkpoint to one file.

The networks of `wsol.interop.peers` are recognised by the names of their tensors. With ``backbone=...``, classifiers of
torchvision and timm are converted that read the mean of their last features: they have class activation maps without
training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from wsol import runs
from wsol.backbones.weights import load_strictly, read_state
from wsol.config import build
from wsol.config.compose import compose
from wsol.engine.predictor import OBJECT
from wsol.errors import InputError
from wsol.interop import peers, safetensors_file
from wsol.runs import checkpoints
from wsol.tensor_files import read_archive

HEAD_OPTIONS = {
    "delta": "erases nothing by a threshold",
    "relu": "comes from one release only",
    "top": "has a map of each class",
}
"""Options of heads that the command line takes, and how messages describe a network without them."""


class ConvertedNetwork(NamedTuple):
    """A checkpoint and its origin."""

    checkpoint: dict[str, Any]
    settings: DictConfig
    """Training config of its network."""
    title: str


class Conversion(NamedTuple):
    """The result of a conversion."""

    network: ConvertedNetwork
    path: Path
    """The run folder, or the one file; `wsol eval <path>` reads both."""


def run(config: DictConfig) -> Conversion:
    """Convert under a composed config of `wsol convert`, and write the checkpoint.

    Raises:
        InputError: no weights, weights of an unknown network, or a file that exists already.
    """
    if config.weights is None:
        raise InputError("which weights? wsol convert <file>")
    file = Path(config.weights)
    file = checkpoints.find(file, "best") if file.is_dir() else file
    to_one_file = config.out is not None and Path(config.out).suffix == safetensors_file.SUFFIX
    if to_one_file:
        runs.check_file(Path(config.out), config.force)
    output = runs.OutputFolder("convert", None if to_one_file else config.out, config.force)
    if (own := _own(config, file)) is not None:
        found = own
    else:
        found = _classifier(config, file) if config.backbone is not None else _peer(config, file)
    if to_one_file:
        file = Path(config.out)
        file.parent.mkdir(parents=True, exist_ok=True)
        checkpoints.write(found.checkpoint, file)
        return Conversion(found, file)
    with output.writing(Path(config.runs_dir) / f"convert-{file.name.partition('.')[0]}") as folder:
        (folder / "checkpoints").mkdir()
        checkpoints.write(found.checkpoint, folder / "checkpoints" / "last.ckpt")
        runs.write_config(folder, found.settings)
    return Conversion(found, output.folder)


def _own(config: DictConfig, file: Path) -> ConvertedNetwork | None:
    """Return this program's own file, to be written in the other format; None if it is another program's file."""
    is_one_file = file.suffix == safetensors_file.SUFFIX
    to_one_file = Path(config.out or "").suffix == safetensors_file.SUFFIX
    is_own = file.is_file() and (
        safetensors_file.read_header(file) is not None
        if is_one_file
        else to_one_file and any(name.startswith(peers.OURS) for name in read_state(file))
    )
    if not is_own:
        return None
    for key in ("data", "transform", "backbone", "method", "output_stride", *HEAD_OPTIONS):
        if config[key] is not None:
            raise InputError(f"{key}=...: {file} was written by this program and has its own; leave {key} out")
    checkpoint = checkpoints.read(file)
    settings = OmegaConf.create(checkpoint["wsol"]["config"])
    return ConvertedNetwork(checkpoint, settings, f"{settings.name}, {len(checkpoint['wsol']['classes'])} classes")


def _peer(config: DictConfig, file: Path) -> ConvertedNetwork:
    """Return a network of `peers`."""
    if config.method is not None:
        raise InputError(
            "method=...: the tensors determine it; set it only with backbone=..., for a torchvision or timm classifier"
        )
    peer, state = peers.recognise(read_state(file), str(file))
    if peer.beside:
        content = (
            {} if file.suffix == safetensors_file.SUFFIX else read_archive(file, "copy or download the file again")
        )
        state |= peer.read_beside(content, str(file))
    stride = peers.output_stride(peer, config.output_stride, str(file))
    settings = _settings(peer, stride, config)
    classes = _classes(config, peers.num_classes(state, str(file)) if peer.classifies else None, str(file))
    localizer = build.build_localizer(settings, classes, load_weights=False)
    optional = [*peer.lacks, *(f"backbone.{name}" for name in localizer.backbone.optional)]
    load_strictly(localizer, state, str(file), optional=optional)
    what = f"{len(classes)} classes" if peer.classifies else "without classes"
    title = f"{peer.name}, output stride {stride}, {what}"
    return ConvertedNetwork(_checkpoint(localizer, settings, peer.name, file), settings, title)


def _classifier(config: DictConfig, file: Path) -> ConvertedNetwork:
    """Return a classifier of torchvision or timm on the backbone that the command line names."""
    for key, method in {"delta": "ACoL", "relu": "BAS", "top": "BAS"}.items():
        if config[key] is not None:
            raise InputError(f"{key}={config[key]}: goes with weights of {method}, not with backbone=...; leave it out")
    read_state(file)  # refuses a name of published weights, and what is unreadable
    settings = compose("train", [])
    OmegaConf.set_struct(settings, False)
    _take(settings, config, ("backbone", "data", "transform", *(("method",) if config.method is not None else ())))
    if config.output_stride is not None:
        settings.backbone.output_stride = config.output_stride
    settings.backbone.weights, settings.method.pretrained_classifier = str(file), True
    backbone = build.instantiate(settings.backbone, "backbone")
    if "weight" not in backbone.classifier_state:
        raise InputError(
            f"{file}: no linear classifier on the mean of the last features of backbone={config.choices.backbone} "
            f"({backbone.no_classifier}), so it has no maps without training. Start from it: "
            f"wsol train backbone=... backbone.weights={file}; or explain it: "
            "wsol predict model=torchvision (or timm) explainer=gradcam"
        )
    classes = _classes(config, len(backbone.classifier_state["weight"]), str(file))
    localizer = build.build_localizer(settings, classes)
    settings.backbone.weights, settings.method.pretrained_classifier = None, False
    name = config.choices.backbone
    title = f"classifier on {name}, output stride {backbone.points['last'].stride}, {len(classes)} classes"
    return ConvertedNetwork(_checkpoint(localizer, settings, name, file), settings, title)


def _checkpoint(localizer: Any, settings: DictConfig, origin: str, file: Path) -> dict[str, Any]:
    return {
        "wsol": checkpoints.header(settings, localizer.classes, localizer.preprocessing),
        "state_dict": {f"{peers.OURS}{name}": value for name, value in localizer.state_dict().items()},
        "converted": {"from": origin, "file": file.name},
    }


def _settings(peer: peers.Peer, stride: int, config: DictConfig) -> DictConfig:
    """Return the training config of the peer's network, with the dataset of this command line."""
    settings = compose("train", [*peer.words, *(() if peer.fixed_stride else (f"backbone.output_stride={stride}",))])
    for key, lacking in HEAD_OPTIONS.items():
        if config[key] is not None:
            if key not in settings.method.head:
                raise InputError(f"{key}={config[key]}: {peer.name} {lacking}; leave {key} out")
            settings.method.head[key] = config[key]
        elif key in peer.asks:
            raise InputError(f"{config.weights}: {peer.name}; give {key}, which no tensor shows: {peer.asks[key]}")
    _take(settings, config, ("data", "transform"))
    return settings


def _take(settings: DictConfig, config: DictConfig, groups: tuple[str, ...]) -> None:
    """Copy groups from the command line, and name the run."""
    given = OmegaConf.to_container(config, resolve=True)
    assert isinstance(given, dict)
    for group in groups:
        settings[group] = given[group]
        settings.choices[group] = given["choices"].get(group)
    settings.data_dir = config.data_dir
    settings.name = f"convert-{Path(config.weights).name.partition('.')[0]}"


def _classes(config: DictConfig, count: int | None, source: str) -> tuple[str, ...]:
    """Return the names of the classes: the dataset's, or numbers without a dataset.

    A network that does not classify, whose ``count`` is None, fits any dataset.
    """
    if config.data is None:
        return (OBJECT,) if count is None else tuple(map(str, range(count)))
    names = tuple(build.build_source(config).classes)
    if count is not None and len(names) != count:
        raise InputError(
            f"{source}: its classifier has {count} classes, data={config.choices.get('data')} has {len(names)}; name "
            "the dataset it was trained on"
        )
    return names
