"""`wsol convert`: weights of another program become a checkpoint of this one; see `wsol.interop.peers`."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from wsol import build, checkpoints, runs
from wsol.backbones.weights import load_strictly, read_state
from wsol.cli import show
from wsol.cli.compose import compose
from wsol.errors import InputError
from wsol.interop import peers


def run(config: DictConfig) -> int:
    """Convert under a composed config; returns the exit code."""
    show.start_logging()
    if config.weights is None:
        raise InputError("which weights? wsol convert weights=<file>")
    file = Path(config.weights)
    peer, state = peers.recognise(read_state(file), str(file))
    stride = peers.output_stride(peer, config.output_stride, str(file))
    settings = _settings(peer, stride, config)
    classes = _classes(config, peers.num_classes(state, str(file)), str(file))
    localizer = build.build_localizer(settings, classes, load_weights=False)
    load_strictly(localizer, state, str(file))
    folder = _output_folder(config, settings.name)
    checkpoint = {
        "wsol": checkpoints.header(settings, classes, localizer.backbone.preprocessing),
        "state_dict": {f"{peers.OURS}{name}": value for name, value in localizer.state_dict().items()},
        "converted": {"from": peer.name, "file": file.name},
    }
    _save(checkpoint, folder / "checkpoints" / "last.ckpt")
    runs.write_config(folder, settings)
    print(f"{peer.name}, output stride {stride}, {len(classes)} classes")
    print(f"written to {folder}; judge it with: wsol eval run={folder}")
    if config.data is None:
        print("Its classes are numbers: to judge it, convert it with the dataset it was trained on, data=...")
    return 0


def _settings(peer: peers.Peer, stride: int, config: DictConfig) -> DictConfig:
    """The training config of the peer's network, with the dataset of this command line."""
    settings = compose("train", [*peer.words, f"backbone.output_stride={stride}"])
    if config.delta is not None:
        if "deltas" not in settings.method.head:
            raise InputError(f"delta={config.delta}: {peer.name} erases nothing by a threshold; leave delta away")
        settings.method.head.deltas = [config.delta]
    given = OmegaConf.to_container(config, resolve=True)
    assert isinstance(given, dict)
    for group in ("data", "transform"):
        settings[group] = given[group]
        settings.choices[group] = given["choices"].get(group)
    settings.data_dir = config.data_dir
    settings.name = f"convert-{Path(config.weights).name.partition('.')[0]}"
    return settings


def _classes(config: DictConfig, count: int, source: str) -> tuple[str, ...]:
    """Names of the classes: the dataset's, or numbers where none is named."""
    if config.data is None:
        return tuple(map(str, range(count)))
    names = tuple(build.build_source(config).classes)
    if len(names) != count:
        raise InputError(
            f"{source}: its classifier has {count} classes, data={config.choices.get('data')} has {len(names)}; name "
            "the dataset it was trained on"
        )
    return names


def _output_folder(config: DictConfig, name: str) -> Path:
    folder = Path(config.out) if config.out else runs.new_folder(Path(config.runs_dir), name)
    if (folder / "config.yaml").exists() or (folder / "checkpoints").exists():
        raise InputError(f"{folder} holds a run already: choose another folder with out=...")
    (folder / "checkpoints").mkdir(parents=True)
    return folder


def _save(checkpoint: dict, file: Path) -> None:
    """Write a checkpoint whole or not at all."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    torch.save(checkpoint, temporary)
    os.replace(temporary, file)
