"""Checkpoints: their contents, how they are read safely, and how a localizer is rebuilt from one alone.

A checkpoint is Lightning's with one additional entry, ``wsol``: the resolved config, the class names and the
preprocessing, all plain data. A checkpoint from elsewhere runs no code and writes nothing: its tensors are read with
``weights_only`` from an archive whose checksums match, the entry is checked against a schema (`wsol.runs.header`), and
its config builds only what `wsol.config.foreign` allows. A .safetensors file with that entry is equivalent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from wsol.config.build import build_localizer
from wsol.errors import InputError, first_line, unknown
from wsol.files import atomic_file, flush, is_hidden
from wsol.interop import safetensors_file
from wsol.interop.peers import OURS
from wsol.models.localizer import Localizer
from wsol.runs.evaluations import REGRESSOR
from wsol.runs.header import REMEDY, bounded, check_header, check_weights
from wsol.tensor_files import check_tensors, read_archive
from wsol.types import Preprocessing

log = logging.getLogger("wsol")

FORMAT = 1
"""Version of the format that `header` writes."""


def header(config: DictConfig, classes: tuple[str, ...], preprocessing: Preprocessing) -> dict:
    """Return the entry that rebuilds a checkpoint's localizer: plain data, loadable with ``weights_only``."""
    plain = OmegaConf.to_container(config, resolve=True)
    return {
        "format": FORMAT,
        "config": plain,
        "classes": list(classes),
        "preprocessing": {
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "size": preprocessing.size,
            "interpolation": preprocessing.interpolation,
        },
    }


def read(path: Path) -> dict:
    """Read a checkpoint (.ckpt) or an exported one (.safetensors) onto the CPU; never runs code from it.

    Raises:
        InputError: the file is missing, unreadable, or not a checkpoint of this program.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; expected a .ckpt file written by `wsol train`")
    content = _read_safetensors(path) if path.suffix == safetensors_file.SUFFIX else _read_pickled(path)
    version = content["wsol"].get("format") if isinstance(content["wsol"], dict) else None
    if version != FORMAT:
        raise InputError(f"{path}: checkpoint format {version}, this version reads {FORMAT}; {REMEDY}")
    check_header(content["wsol"], path)
    check_tensors(content["state_dict"], f"{path}: state_dict", REMEDY)
    return content


def _read_safetensors(path: Path) -> dict:
    state, header = safetensors_file.read(path)
    return {"wsol": header, "state_dict": {f"{OURS}{name}": value for name, value in state.items()}}


def _read_pickled(path: Path) -> dict:
    content = read_archive(path, _remedy(path))
    if not isinstance(content, dict) or "wsol" not in content or "state_dict" not in content:
        raise InputError(
            f"{path}: not a checkpoint of `wsol train` (no 'wsol' entry); expected one from <run>/checkpoints"
        )
    return content


def _remedy(path: Path) -> str:
    """Return what to do about a damaged checkpoint: it names another one of the run, if there is one."""
    others = [file.name for file in _whole(path.parent) if file.name != path.name]
    another = f", such as {others[0]}" if path.parent.name == "checkpoints" and others else ""
    return f"use another checkpoint of the run{another}, or train again"


def _whole(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, without those that are being written."""
    return [file for file in sorted(folder.glob("*.ckpt")) if not is_hidden(file)]


def write(checkpoint: Mapping, path: Path, *, before_replacing: Callable[[Path], None] | None = None) -> None:
    """Write a checkpoint completely or not at all; with the suffix .safetensors, without the trainer's part.

    Args:
        checkpoint: made by Lightning, with the entry of `header`.
        path: file to create or replace.
        before_replacing: called with ``path`` when the new content is on disk and ``path`` still has the old one.

    Raises:
        OSError: it cannot be written; the existing file is unchanged.
    """
    with atomic_file(path) as temporary:
        if path.suffix == safetensors_file.SUFFIX:
            temporary.write_bytes(safetensors_file.to_bytes(own_state(checkpoint["state_dict"]), checkpoint["wsol"]))
        else:
            _save(dict(checkpoint), temporary)
        if before_replacing is not None:
            flush(temporary)
            before_replacing(path)


def _save(content: dict, file: Path) -> None:
    """Call `torch.save`, and turn the error of a full disk into an OSError: PyTorch only reports its own position."""
    try:
        with file.open("wb") as stream:
            torch.save(content, stream)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def find(run: Path, name: str = "best") -> Path:
    """Return the checkpoint for a run folder and ``best``, ``last`` or a file name; ``best`` falls back to last.

    Args:
        run: a run folder, or the checkpoint file itself. Of a run of `wsol regress` it is the regressor's checkpoint.
        name: name of the checkpoint.

    Raises:
        InputError: no such checkpoint.
    """
    if run.is_file():
        return run
    parts = run / "checkpoints", run / REGRESSOR / "checkpoints"
    folder = next((part for part in parts if part.is_dir()), None)
    if folder is None:
        raise InputError(f"{run}: not a run (no checkpoints folder); expected a folder that `wsol train` made")
    there = {file.stem: file for file in _whole(folder)}
    stem = Path(name).stem if name.endswith(".ckpt") else name
    if stem == "best" and "best" not in there and "last" in there:
        log.info("%s has no best checkpoint (nothing was monitored): using the last one", run)
        return there["last"]
    if stem not in there:
        raise unknown(f"checkpoint of {run}", name, there)
    return there[stem]


def load_localizer(checkpoint: dict, path: Path, *, trust: bool = False) -> tuple[Localizer, DictConfig]:
    """Rebuild the localizer of a checkpoint and return it with its training config.

    Raises:
        InputError: the config names untrusted targets, or the weights do not fit the architecture.
    """
    header = checkpoint["wsol"]
    config = OmegaConf.create({**header["config"], "preprocessing": header["preprocessing"]})
    given = own_state(checkpoint["state_dict"])
    try:
        if trust:
            localizer = build_localizer(config, tuple(header["classes"]), trust=True, load_weights=False)
        else:
            with bounded(sum(value.numel() for value in given.values()), path):
                localizer = build_localizer(config, tuple(header["classes"]), load_weights=False, trust=False)
    except InputError as error:
        raise error if str(error).startswith(f"{path}") else InputError(f"{path}: {error}") from error
    except Exception as error:
        if trust:
            raise
        raise InputError(
            f"{path}: config.method: cannot be built from the file ({type(error).__name__}: "
            f"{first_line(error)}); {REMEDY}"
        ) from error
    _compare(localizer, given, path)
    check_weights(localizer.state_dict(), given, path)
    localizer.load_state_dict(given)
    return localizer, config


def load_state(localizer: Localizer, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load the localizer's part of a Lightning state dict strictly, and report mismatches.

    Raises:
        InputError: missing or unexpected keys, or other shapes.
    """
    given = own_state(state)
    _compare(localizer, given, path)
    localizer.load_state_dict(given)


def _compare(localizer: Localizer, given: Mapping[str, torch.Tensor], path: Path) -> None:
    own = localizer.state_dict()
    missing, surplus = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    shapes = [k for k in own.keys() & given.keys() if own[k].shape != given[k].shape]
    if missing or surplus or shapes:
        lines = [
            f"{label}: {', '.join(keys[:5])}{f' and {len(keys) - 5} more' if len(keys) > 5 else ''}"
            for label, keys in (("missing", missing), ("unexpected", surplus), ("of another shape", sorted(shapes)))
            if keys
        ]
        raise InputError(
            f"{path}: its weights belong to another architecture ({'; '.join(lines)}); use the config of its training"
        )


def own_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the localizer's part of a Lightning state dict, under the localizer's own names."""
    return {key.removeprefix(OURS): value for key, value in state.items() if key.startswith(OURS)}
