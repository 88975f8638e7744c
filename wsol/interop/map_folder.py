"""Maps as other programs save them: one file per image, ``<folder>/<image id>.npy`` or ``.png``.

This is the layout of https://github.com/clovaai/wsolevaluation (Choe et al. 2020): ids may contain slashes and a suffix
of their own, such as ``val2/0/0.jpeg.npy``. An ``.npy`` file is a real array (h, w); a grey PNG with 8 or 16 bits is
value / 255 or value / 65535. A map of any size covers the whole image, or with ``view="crop"`` its centre crop: the
shorter side resized to 256, then the 224 x 224 window at the centre.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wsol.data.image_files import files_under
from wsol.data.packed import BROKEN_ARRAY
from wsol.data.regular_files import name_fault, open_regular
from wsol.data.source import Split
from wsol.errors import InputError, first_line, unknown
from wsol.functional.geometry import Geometry
from wsol.interop.map_store import MapStore, is_store
from wsol.interop.maps import Maps as Maps

CROP = (256, 224)
"""Shorter side and window of ``view="crop"``, pixels."""

VIEWS = ("whole", "crop")
GREY = {"L": 255, "I;16": 65535}
"""Maximum value by Pillow's mode."""

_BROKEN_PNG = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def open_maps(folder: str | Path, view: str = "whole") -> Maps:
    """Open a store of this package or a folder of map files, whichever it is.

    Args:
        folder: folder of the maps.
        view: the part of the image that map files show, see `MapFolder`; a store contains its geometry.

    Raises:
        InputError: it is neither; see also `wsol.interop.map_store.MapStore` and `MapFolder`.
    """
    folder = Path(folder)
    if view not in VIEWS:
        raise unknown("view of maps", view, VIEWS)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a folder of maps")
    return MapStore(folder) if is_store(folder) else MapFolder(folder, view)


class MapFolder(Maps):
    """A folder of map files.

    Args:
        folder: folder with ``<image id>.npy`` and ``<image id>.png`` at any depth.
        view: what each map shows: the ``whole`` image, or its centre ``crop``.

    Raises:
        InputError: no such view, no maps, or two files for one image.
    """

    def __init__(self, folder: str | Path, view: str = "whole") -> None:
        if view not in VIEWS:
            raise unknown("view of maps", view, VIEWS)
        self.folder, self._view = Path(folder), view
        self._files: dict[str, Path] = {}
        for file in _files(self.folder):
            image_id = file.relative_to(self.folder).as_posix()[: -len(file.suffix)]
            if self._files.setdefault(image_id, file) != file:
                raise InputError(f"{file}: {self._files[image_id].name} is a map of the same image; keep one")
        if not self._files:
            raise InputError(f"{folder}: no maps; expected maps-*.bin of `wsol eval`, or <id>.npy or <id>.png")
        self.ids = tuple(self._files)

    def read(self, image_id: str, image_size: tuple[int, int] | None = None) -> tuple[np.ndarray, tuple[Geometry, ...]]:
        """See `wsol.interop.maps.Maps.read`; one view, float64 unless the file has float16 or float32.

        wsolevaluation saves float64, and grey levels cut from float32 would sometimes differ from its own.
        """
        if image_id not in self._files:
            raise InputError(f"{self.folder}: no map of image {image_id!r}")
        if image_size is None:
            raise InputError(f"{self._files[image_id]}: a map file does not contain its image's size; pass image_size")
        values = _READERS[self._files[image_id].suffix](self._files[image_id])
        return values[None], (self._geometry(image_size, (values.shape[1], values.shape[0])),)

    def check(self, split: Split) -> tuple[list[str], list[str]]:
        """See `wsol.interop.maps.Maps.check`; reads the headers of all files."""
        for file in self._files.values():
            _CHECKS[file.suffix](file)
        return super().check(split)

    def about(self) -> dict[str, Any]:
        """Describe how the files are interpreted."""
        return {"kind": "files", "view": self._view}

    def _geometry(self, image_size: tuple[int, int], map_size: tuple[int, int]) -> Geometry:
        if self._view == "crop":
            return Geometry.crop(image_size, *CROP)
        return Geometry(image_size, map_size, (0, 0), map_size)


def _files(folder: Path) -> list[Path]:
    found = sorted(files_under(folder, lambda name: os.path.splitext(name)[1] in _READERS and name[0] != "."))
    for fault in filter(None, (name_fault(str(file.relative_to(folder))) for file in found)):
        raise InputError(f"{folder}: {fault}")
    return found


def _check_npy(file: Path) -> None:
    """Check the header of an npy file, and that the file has the length that the header declares."""
    try:
        with open_regular(file) as stream:
            version = np.lib.format.read_magic(stream)
            if version not in ((1, 0), (2, 0), (3, 0)):
                raise ValueError(f"version {version}")
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream)
            length = os.fstat(stream.fileno()).st_size - stream.tell()
    except BROKEN_ARRAY as error:
        raise InputError(f"{file}: not a readable npy file ({_why(error)}); save the map again") from error
    if dtype.kind not in "fiu":
        raise InputError(f"{file}: expected real numbers, got dtype {dtype}; save the map with dtype float32")
    if len(shape) != 2 or min(shape) < 1:
        raise InputError(f"{file}: expected one map (h, w) with at least one pixel, got shape {shape}")
    if length < shape[0] * shape[1] * dtype.itemsize:
        raise InputError(f"{file}: cut off: {length:,} bytes of a map {shape} of dtype {dtype}; save the map again")


def _read_npy(file: Path) -> np.ndarray:
    _check_npy(file)
    try:
        with open_regular(file) as stream:
            values = np.load(stream, allow_pickle=False)
    except BROKEN_ARRAY as error:
        raise InputError(f"{file}: not a readable npy file ({_why(error)}); save the map again") from error
    small = values.dtype.kind == "f" and values.dtype.itemsize <= 4
    return np.ascontiguousarray(values, dtype=np.float32 if small else np.float64)


def _check_png(file: Path) -> None:
    _opened(file, lambda image: None)


def _read_png(file: Path) -> np.ndarray:
    values = _opened(file, np.asarray)
    return values / np.float64(np.iinfo(values.dtype).max)


def _opened(file: Path, read: Callable[[Image.Image], Any]) -> Any:
    """Return the result of ``read`` for a grey PNG."""
    try:
        with open_regular(file) as stream, Image.open(stream, formats=["PNG"]) as image:
            if image.mode not in ("L", "I;16"):
                raise InputError(f"{file}: expected a grey PNG of 8 or 16 bits, got mode {image.mode}; save it as grey")
            return read(image)
    except InputError:
        raise
    except _BROKEN_PNG as error:
        raise InputError(f"{file}: not a readable PNG ({_why(error)}); save the map again") from error


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)


_READERS: dict[str, Callable[[Path], np.ndarray]] = {".npy": _read_npy, ".png": _read_png}
_CHECKS: dict[str, Callable[[Path], None]] = {".npy": _check_npy, ".png": _check_png}
