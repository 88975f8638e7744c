"""A localizer as one .safetensors file: its tensors, with the metadata needed to build it again.

The metadata of the format (https://huggingface.co/docs/safetensors) maps strings to strings. The entry ``wsol`` is a
JSON object with the config, the class names and the preprocessing; the entry ``sha256`` is a checksum of everything
else. Such a file contains no code, any program can read it, and its config builds only what `wsol.config.foreign`
allows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from wsol.errors import InputError, first_line
from wsol.tensor_files import CHECKSUM, read_safetensors, to_safetensors

SUFFIX = ".safetensors"
ENTRY = "wsol"
REMEDY = "copy the file again, or export it again from its run"


def to_bytes(state: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """Return the content of a file, with its checksum.

    Args:
        state: state dict of the localizer.
        header: plain data that JSON can represent.
    """
    return to_safetensors(state, {ENTRY: json.dumps(header)})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and header.

    Raises:
        InputError: a damaged file, or one without a header, such as plain weights.
    """
    header = read_header(path)
    if header is None:
        raise InputError(
            f"{path}: its metadata has no entry {ENTRY!r}, so there is no config; of plain weights of a torchvision or "
            f"timm classifier `wsol convert {path} backbone=...` makes a localizer"
        )
    tensors, metadata = read_safetensors(path, REMEDY)
    if surplus := sorted(metadata.keys() - {ENTRY}):
        raise InputError(
            f"{path}: damaged: its metadata has the entry {surplus[0]!r}; expected {ENTRY!r} and {CHECKSUM!r}; {REMEDY}"
        )
    return tensors, header


def read_header(path: Path) -> dict[str, Any] | None:
    """Return the header of a file; None if it has none.

    Raises:
        InputError: an unreadable file, or a header that is not a JSON object.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(ENTRY)
        header = None if text is None else json.loads(text)
    except (OSError, SafetensorError, ValueError, RecursionError, OverflowError) as error:
        raise InputError(f"{path}: not a readable .safetensors file ({first_line(error)}); {REMEDY}") from error
    if header is not None and not isinstance(header, dict):
        raise InputError(f"{path}: the entry {ENTRY!r} of its metadata is not a JSON object; {REMEDY}")
    return header
