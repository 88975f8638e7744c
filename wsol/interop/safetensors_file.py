"""A localizer as one .safetensors file: its tensors, and in the file's metadata all it takes to build it again.

The metadata of the format (https://huggingface.co/docs/safetensors) maps strings to strings; the entry ``wsol`` is a
JSON object: the config, the class names, and the preprocessing. Such a file holds no code, and any program can read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from wsol.errors import InputError, first_line

SUFFIX = ".safetensors"
ENTRY = "wsol"


def to_bytes(state: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """Return the content of a file.

    Args:
        state: of the localizer.
        header: plain data that JSON can hold.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    return save(tensors, metadata={ENTRY: json.dumps(header)})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and header.

    Raises:
        InputError: an unreadable file, or one without a header, such as plain weights.
    """
    header = read_header(path)
    if header is None:
        raise InputError(
            f"{path}: its metadata has no entry {ENTRY!r}, so there is no config; of plain weights of a torchvision or "
            f"timm classifier `wsol convert weights={path} backbone=...` makes a localizer"
        )
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118


def read_header(path: Path) -> dict[str, Any] | None:
    """Return the header of a file; None where it has none.

    Raises:
        InputError: an unreadable file, or a header that is no JSON object.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(ENTRY)
        header = None if text is None else json.loads(text)
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path}: not a readable .safetensors file ({first_line(error)})") from error
    if header is not None and not isinstance(header, dict):
        raise InputError(f"{path}: the entry {ENTRY!r} of its metadata is no JSON object; write the file again")
    return header
