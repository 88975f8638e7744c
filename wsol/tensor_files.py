"""Files of tensors, read without running code: `torch.save` archives and .safetensors, fully checked or refused.

PyTorch's own reader has no checksums and trusts the sizes that a file declares. Here an archive is checked first: every
record against its CRC-32, and every storage against the size of its record. A .safetensors file of this program
contains a SHA-256 of its content.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from wsol.errors import InputError, first_line

CHECKSUM = "sha256"
"""The entry of a .safetensors file's metadata with the checksum."""

_BYTES = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
    "UntypedStorage": 1,
    "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QInt32Storage": 4,
}
"""Bytes per element, by `torch.save`'s name of the storage."""


def read_archive(path: Path, remedy: str) -> Any:
    """Read a file of `torch.save` (.ckpt, .pth, .pt) onto the CPU; pickled objects are refused, never loaded.

    Args:
        path: the file.
        remedy: what to do about a damaged file, for messages.

    Raises:
        InputError: the file is damaged, contains pickled objects, or is something else.
    """
    start = b""
    try:
        with open(path, "rb") as file:
            start = file.read(512)
            if start[257:262] == b"ustar":
                raise InputError(f"{path}: an obsolete PyTorch format (a tar archive); save its tensors again")
            if zipfile.is_zipfile(file):
                _check_archive(path, file, remedy)
            elif start[:2] == b"PK":
                raise InputError(f"{path}: damaged: the archive is cut short; {remedy}")
            file.seek(0)
            # PyTorch first tries to open an old file on disk as a tar archive, and creates a temporary folder for it.
            source = file if start[:2] == b"PK" else io.BytesIO(file.read())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # about the format, which a reader cannot change
                return torch.load(source, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: damaged: {first_line(error)}; {remedy}") from error
    except Exception as error:  # a malformed pickle can raise anything
        raise InputError(f"{path}: {_explain(start, error, remedy)}") from error


def _explain(start: bytes, error: Exception, remedy: str) -> str:
    """Explain why `torch.load` refused a file, from its first bytes and the error."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror}); {remedy}"
    if not start:
        return f"not a PyTorch checkpoint (the file is empty); {remedy}"
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return _refusal([named[1]])
    if start[:2] == b"PK":
        return f"damaged: {first_line(error)}; {remedy}"
    try:
        text = start.decode("utf-8", errors="strict" if len(start) < 512 else "ignore")
    except UnicodeDecodeError:
        text = "\0"
    if all(sign.isprintable() or sign.isspace() for sign in text):
        return f"not a PyTorch checkpoint (plain text); {remedy}"
    if isinstance(error, pickle.UnpicklingError) and "Unsupported" in str(error):
        return f"contains pickled objects, which are never loaded, or is corrupt; {remedy}"
    return f"not a PyTorch checkpoint, or damaged; {remedy}"


def _refusal(names: list[str]) -> str:
    return (
        f"contains pickled objects of {', '.join(names[:3])}, which are never loaded because such files can run code. "
        "Save plain tensors instead: torch.save(model.state_dict(), path), or use .safetensors"
    )


def _check_archive(path: Path, file: BinaryIO, remedy: str) -> None:
    """Check every record against its checksum, and every storage against the size of its record."""
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        names = [record.filename.casefold() for record in records]
        roots = {name.partition("/")[0] for name in names}
        parts = {record.filename.partition("/")[2]: record for record in records}
        if "data.pkl" not in parts or len(roots) != 1:
            raise InputError(f"{path}: not a PyTorch checkpoint (a zip archive of other files); {remedy}")
        if "constants.pkl" in parts or any(name.startswith("code/") for name in parts):
            raise InputError(f"{path}: a TorchScript program, which is never run; save its state dict instead")
        is_packed = any(record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1 for record in records)
        if is_packed or len(set(names)) < len(names):
            raise InputError(f"{path}: not written by torch.save (compressed, or duplicate records); {remedy}")
        if (bad := archive.testzip()) is not None:
            raise InputError(f"{path}: damaged: {bad} does not match its checksum; {remedy}")
        scan = _Scan(archive.read(parts["data.pkl"]))
    scan.run()
    for key, kind, count in scan.storages:
        record = parts.get(f"data/{key}")
        if record is None or kind not in _BYTES or not isinstance(count, int) or count < 0:
            raise InputError(f"{path}: damaged: storage {key} is missing or of an unknown kind ({kind}); {remedy}")
        if count * _BYTES[kind] > record.file_size:
            raise InputError(
                f"{path}: damaged: storage {key} declares {count * _BYTES[kind]:,} bytes, but its record has "
                f"{record.file_size:,}; {remedy}"
            )


class _Placeholder:
    """Replaces any object of a pickle: accepts every call and does nothing."""

    def __new__(cls, *_args: Any, **_named: Any) -> _Placeholder:
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_named: Any) -> None: ...

    def __call__(self, *_args: Any, **_named: Any) -> _Placeholder:
        return _Placeholder()

    def __setstate__(self, _state: Any) -> None: ...

    def __setitem__(self, _key: Any, _value: Any) -> None: ...

    def append(self, _value: Any) -> None: ...

    def extend(self, _values: Any) -> None: ...

    def add(self, _value: Any) -> None: ...


class _Scan(pickle._Unpickler):  # the C version sizes its memo as the file declares
    """Collects the storages that a pickle names; every class and function in it is an `_Placeholder`."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self.storages: list[tuple[str, str, Any]] = []
        """Key, kind, and number of elements."""

    def run(self) -> None:
        self.load()

    def find_class(self, module: str, name: str) -> type[_Placeholder]:
        return type(name, (_Placeholder,), {})

    def persistent_load(self, found: Any) -> _Placeholder:
        if not (isinstance(found, tuple) and len(found) == 5 and found[0] == "storage" and isinstance(found[1], type)):
            raise pickle.UnpicklingError(f"a reference that torch.save does not write: {str(found)[:80]}")
        self.storages.append((str(found[2]), found[1].__name__, found[4]))
        return _Placeholder()


def check_tensors(state: Any, where: str, remedy: str) -> None:
    """Require a state dict of dense tensors on the CPU whose values are all in the file.

    Args:
        state: content of a file.
        where: the file, and the key in it, for messages.
        remedy: what to do, for messages.

    Raises:
        InputError: names the tensor.
    """
    if not isinstance(state, Mapping):
        raise InputError(f"{where}: expected names to tensors, got {type(state).__name__}; {remedy}")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(f"{where}.{name}: expected a name and a tensor, got {type(value).__name__}; {remedy}")
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
            kind = f"{value.layout} {value.dtype} on {value.device}".replace("torch.", "")
            raise InputError(f"{where}.{name}: expected a dense tensor on the CPU, got {kind}; {remedy}")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise InputError(f"{where}.{name}: the file has fewer values than its shape {tuple(value.shape)}; {remedy}")


def to_safetensors(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the content of a .safetensors file, including a checksum.

    Args:
        state: tensors by name.
        metadata: strings stored with them.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    return save(tensors, metadata={**metadata, CHECKSUM: checksum(tensors, metadata)})


def read_safetensors(path: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a .safetensors file onto the CPU: its tensors and its metadata; verifies the checksum if it has one.

    Raises:
        InputError: the file is damaged, or not in that format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RuntimeError, TypeError, OverflowError, MemoryError) as error:
        raise InputError(f"{path}: not a readable .safetensors file ({first_line(error)}); {remedy}") from error
    declared = metadata.pop(CHECKSUM, None)
    if declared is not None and declared != checksum(tensors, metadata):
        raise InputError(f"{path}: damaged: its content does not match its checksum; {remedy}")
    return tensors, metadata


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and values of tensors (contiguous, on the CPU), and of metadata.

    Example:
        >>> first, second = torch.zeros(2), torch.ones(2)
        >>> checksum({"a": first}, {}) == checksum({"a": second}, {})
        False
    """
    digest = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name, value in sorted(tensors.items()):
        digest.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
