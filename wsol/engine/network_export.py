"""Export (`wsol export`): a trained network as a file for other programs, compared with the network after writing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from wsol import runs
from wsol.config import build
from wsol.data.transforms import EvalTransform
from wsol.engine.predictor import OBJECT
from wsol.errors import InputError, unknown
from wsol.files import atomic_file
from wsol.interop import export_onnx, export_torch
from wsol.interop.export import TOLERANCE, ExportGraph, compare, num_maps
from wsol.models.localizer import Localizer
from wsol.runs import checkpoints

SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}
GRAPHS = ("onnx", "torch_export")
ONLY = {"opset": ("onnx",), "top": GRAPHS, "normalise": GRAPHS, "image_size": GRAPHS, "check": GRAPHS}
"""Keys that only some formats have, with these formats."""


class ExportedFile(NamedTuple):
    """An exported file."""

    file: Path
    note: str
    """The result of the comparison with the network, or how to load the file."""
    difference: float | None = None
    """Maximum difference of its outputs from the network's; None if they were not compared."""


def run(config: DictConfig) -> ExportedFile:
    """Export under a composed config of `wsol export`, and write the file.

    Raises:
        InputError: no run, an unknown format, a missing package, a key that the format does not have, a file that
            exists already, or a graph whose outputs differ from the network's.
    """
    if config.format not in SUFFIXES:
        raise unknown("format", config.format, SUFFIXES)
    for key, formats in ONLY.items():
        if config[key] is not None and config.format not in formats:
            raise InputError(f"{key}={config[key]}: has no effect with format={config.format}; leave it out")
    if config.run is None:
        raise InputError("which run? wsol export <run> format=onnx")
    if config.format == "onnx":
        export_onnx.require()
    source = checkpoints.find(Path(config.run), config.checkpoint)
    file = _file(config, source)
    checkpoint = checkpoints.read(source)
    localizer, trained = checkpoints.load_localizer(checkpoint, source, trust=config.trust)
    if config.format == "safetensors":
        file.parent.mkdir(parents=True, exist_ok=True)
        checkpoints.write(checkpoint, file)
        return ExportedFile(file, "`wsol eval`, `wsol predict` and wsol.load load it")
    if config.image_size is not None:
        trained.image_size = config.image_size
    build.check_parts(trained, ["transform"], source, trust=config.trust)
    transform = build.build_transform(trained, "eval", localizer.preprocessing, trust=config.trust)
    return _write_graph(config, localizer, transform, file)


def _file(config: DictConfig, source: Path) -> Path:
    """Return the file to write; refuses an existing file, unless ``force`` is set, or another suffix."""
    folder = source.parent.parent if source.parent.name == "checkpoints" else source.parent
    suffix = SUFFIXES[config.format]
    file = Path(config.out) if config.out else folder / "export" / f"model{suffix}"
    if file.suffix != suffix:
        raise InputError(f"out={file}: expected a file name that ends in {suffix} for format={config.format}")
    runs.check_file(file, config.force)
    return file


def _write_graph(config: DictConfig, localizer: Localizer, transform: EvalTransform, file: Path) -> ExportedFile:
    """Write a graph completely or not at all."""
    top = config.top
    if top is None and not localizer.gives_boxes:
        top = min(5, num_maps(localizer))
    graph = ExportGraph(localizer, top, normalise=config.normalise is not False)
    card = describe(localizer, transform, normalised_inside=config.normalise is not False)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as temporary:
        if config.format == "onnx":
            export_onnx.write(graph, temporary, transform.size, card, config.opset)
        else:
            export_torch.write(graph, temporary, transform.size, card)
        if config.check is False:
            return ExportedFile(file, "not compared with the network")
        runner = export_onnx.runner if config.format == "onnx" else export_torch.runner
        worst = compare(graph, runner(temporary), transform.size)
        note = f"differs from the network by {worst:.1e} at most ({TOLERANCE:.0e} is allowed)"
    return ExportedFile(file, note, worst)


def describe(localizer: Localizer, transform: EvalTransform, *, normalised_inside: bool) -> dict[str, Any]:
    """Return the description stored in a file: how to prepare its input, and the names of the classes."""
    expected = localizer.preprocessing
    names = (localizer.classes or map(str, range(localizer.num_classes))) if localizer.classifies else (OBJECT,)
    return {
        "classes": list(names),
        "size": transform.size,
        "interpolation": transform.interpolation,
        "transform": {"name": type(transform).__name__, **vars(transform)},
        "input": "RGB in [0, 1]" if normalised_inside else "RGB in [0, 1], minus mean, over std",
        "mean": list(expected.mean),
        "std": list(expected.std),
    }
