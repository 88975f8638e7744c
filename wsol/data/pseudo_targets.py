"""Pseudo targets: a box or a mask of each training image that a network found, for a second network to learn from.

A folder of pseudo targets holds

* ``about.json``: the dataset and split, and the network, protocol and threshold that made the targets;
* ``boxes.csv``: ``image,x0,y0,x1,y1``, half-open, image frame, one line per image; or
* ``ids.txt``, ``masks.npy``, ``ends.npy``: one id per line, concatenated PNG files (one bit per pixel, image frame),
  and the end of each file in bytes.

``wsol eval <run> split=train pseudo=boxes`` writes it (`wsol.engine.pseudo_evaluation`). Targets of another split than
train, and those whose threshold is the best on the judged images (``oracle``), are refused.
"""

from __future__ import annotations

import csv
import hashlib
import json
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import cv2
import numpy as np

from wsol.data.annotations.json_file import strict_json
from wsol.data.packed import BROKEN_ARRAY, MappedArray
from wsol.data.regular_files import read_regular
from wsol.data.source import Split
from wsol.errors import InputError, unknown
from wsol.functional.geometry import Geometry

VERSION = 1
"""Version of the format."""
Kind = Literal["boxes", "masks"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ORIGINS = ("fixed", "pseudo", "fullsup")
"""Origins of thresholds that pseudo targets may have."""
_FILES = {"boxes": ("boxes.csv",), "masks": ("ids.txt", "masks.npy", "ends.npy")}


@dataclass(frozen=True)
class PseudoTargets:
    """The pseudo targets of a split's images; `read_pseudo_targets` makes them."""

    kind: Kind
    about: dict[str, Any]
    """What ``about.json`` says, with ``folder`` and ``sha256`` of the folder."""
    rows: np.ndarray
    """int64 (N,) row of each image of the split in ``values`` or in the file of masks."""
    values: np.ndarray | None = None
    """float32 (R, 4) boxes, half-open, image frame; None for masks."""
    masks: tuple[MappedArray, MappedArray] | None = None
    """PNG files uint8 (B,), and their ends int64 (R,)."""

    def target(self, position: int, view: Geometry) -> np.ndarray:
        """Return an image's target where a transform moved it: a box float32 (4,), or a mask uint8 (1, H, W).

        Raises:
            InputError: the target is of an image of another size.
        """
        row, (width, height) = int(self.rows[position]), view.image_size
        if self.values is not None:
            x0, y0, x1, y1 = self.values[row].tolist()
            if x1 > width + 0.5 or y1 > height + 0.5:
                raise InputError(
                    f"{self.about['folder']}: the box {x0:g}, {y0:g}, {x1:g}, {y1:g} reaches beyond the image of "
                    f"{width} x {height}; make the pseudo boxes again"
                )
            return carry_box(self.values[row], view)
        assert self.masks is not None
        files, ends = (one.values for one in self.masks)
        start = int(ends[row - 1]) if row else 0
        mask = cv2.imdecode(np.array(files[start : int(ends[row])]), cv2.IMREAD_GRAYSCALE)
        if mask is None or mask.shape[::-1] != tuple(view.image_size):
            size = "no PNG file" if mask is None else f"a mask of {mask.shape[1]} x {mask.shape[0]}"
            raise InputError(
                f"{self.about['folder']}: {size} for an image of {width} x {height}; make the pseudo masks again"
            )
        return carry_mask((mask > 0).astype(np.uint8), view)[None]


def carry_box(box: np.ndarray, view: Geometry) -> np.ndarray:
    """Move a box from the image frame to the input frame and clip it to the input.

    Args:
        box: real (4,) x0, y0, x1, y1, half-open, image frame.
        view: what the transform did to the image.

    Returns:
        float32 (4,), half-open, input frame; NaN if the crop shows nothing of the box, so that it is not learned.

    Example:
        >>> view = Geometry((20, 10), resized=(40, 20), offset=(10, 0), input_size=(20, 20), mirrored=True)
        >>> carry_box(np.array([0.0, 2.0, 10.0, 8.0]), view)
        array([10.,  4., 20., 16.], dtype=float32)
        >>> carry_box(np.array([0.0, 2.0, 5.0, 8.0]), view)
        array([nan, nan, nan, nan], dtype=float32)
    """
    moved = view.to_input(box)[0].clip(0, np.tile(view.input_size, 2)).astype(np.float32)
    return moved if moved[2] > moved[0] and moved[3] > moved[1] else np.full(4, np.nan, np.float32)


def carry_mask(mask: np.ndarray, view: Geometry) -> np.ndarray:
    """Move a mask to the input frame: each pixel takes the value of the image's pixel below its centre.

    Args:
        mask: uint8 (H, W) of the image's size.
        view: what the transform did to the image.

    Returns:
        uint8 (h, w) of the input's size; 0 outside the image.

    Example:
        >>> view = Geometry((4, 1), resized=(4, 1), offset=(-1, 0), input_size=(4, 1), mirrored=True)
        >>> carry_mask(np.array([[1, 0, 0, 1]], np.uint8), view)
        array([[0, 0, 1, 0]], dtype=uint8)
    """
    indices = []
    for axis in (0, 1):
        cells = np.arange(view.input_size[axis]) + 0.5
        at = (cells + view.offset[axis]) * view.image_size[axis] / view.resized[axis]
        indices.append(np.floor(at).astype(np.int64))
    x, y = indices
    x = x[::-1] if view.mirrored else x
    inside = ((y >= 0) & (y < mask.shape[0]))[:, None] & ((x >= 0) & (x < mask.shape[1]))[None]
    found: np.ndarray = mask[y.clip(0, mask.shape[0] - 1)[:, None], x.clip(0, mask.shape[1] - 1)[None]] * inside
    return found


def pack_mask(mask: np.ndarray) -> bytes:
    """Return a mask, bool (H, W), as a PNG file of one bit per pixel."""
    done, file = cv2.imencode(".png", mask.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])
    assert done
    return file.tobytes()


def write_pseudo_targets(
    folder: Path, kind: Kind, targets: Iterable[tuple[str, Any]], about: Mapping[str, Any]
) -> None:
    """Write pseudo targets into a folder as they come, ``about.json`` last.

    Args:
        folder: exists, and is empty.
        kind: ``boxes`` or ``masks``.
        targets: image ids with float (4,) boxes in the image frame, or masks as `pack_mask` made them.
        about: must name ``data_fingerprint`` (of the dataset's whole train split), ``split``, ``threshold_origin`` and
            ``human_boxes``.
    """
    images = (_write_boxes if kind == "boxes" else _write_masks)(folder, targets)
    content = {"version": VERSION, "kind": kind, **about, "images": images}
    (folder / "about.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_boxes(folder: Path, boxes: Iterable[tuple[str, Any]]) -> int:
    """Write boxes and return their number."""
    images = 0
    with (folder / "boxes.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("image", "x0", "y0", "x1", "y1"))
        for name, box in boxes:
            images += 1
            writer.writerow((name, *(f"{value:.10g}" for value in box)))
    return images


def _write_masks(folder: Path, masks: Iterable[tuple[str, bytes]]) -> int:
    """Write masks one by one and return their number."""
    ends = array("q")
    with (folder / "ids.txt").open("w", encoding="utf-8") as ids, (folder / "masks.npy").open("wb") as files:
        begin = _write_header(files, 0)
        for name, file in masks:
            ids.write(f"{name}\n")
            files.write(file)
            ends.append((ends[-1] if ends else 0) + len(file))
        files.seek(0)
        assert _write_header(files, ends[-1] if ends else 0) == begin  # NumPy leaves room for any length
    np.save(folder / "ends.npy", np.array(ends, dtype=np.int64))
    return len(ends)


def _write_header(stream: BinaryIO, length: int) -> int:
    """Write the header of an array uint8 (length,) in NumPy's format; return the position behind it."""
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (length,)})
    return stream.tell()


def read_pseudo_targets(folder: str | Path, split: Split, fingerprint: str) -> PseudoTargets:
    """Read the pseudo targets of a train split.

    Args:
        folder: see the module.
        split: the images to be trained on: all of the dataset's train split, or what is left after holding out.
        fingerprint: fingerprint of the dataset's whole train split.

    Raises:
        InputError: no such folder, of another version, split or dataset; a threshold chosen on the judged
            images; an image without a target; a faulty box.
    """
    place = Path(folder)
    about = _about(place)
    _check_origin(place, about)
    if about["data_fingerprint"] != fingerprint:
        raise InputError(
            f"pseudo={folder}: made on the train split of another dataset (its ids, labels or boxes differ); make them "
            "on this one"
        )
    kind: Kind = about["kind"]
    about = {**about, "folder": str(folder), "sha256": _digest(place, kind)}
    if kind == "masks":
        return _masks(place, split, about)
    names, values = _boxes(place / "boxes.csv")
    return PseudoTargets(kind, about, _rows(place, names, split), values)


def pseudo_digest(folder: str | Path) -> str:
    """Return the sha256 (hex) of a folder of pseudo targets, to tell whether a training goes on with the same ones.

    Raises:
        InputError: no such folder.
    """
    return _digest(Path(folder), _about(Path(folder))["kind"])


def _about(folder: Path) -> dict[str, Any]:
    try:
        about = strict_json(read_regular(folder / "about.json").decode())
    except (OSError, ValueError) as error:
        raise InputError(
            f"pseudo={folder}: no pseudo targets there ({error}); expected the folder of `wsol eval <run> split=train "
            "pseudo=boxes`, or pseudo=masks"
        ) from error
    needed = {"version", "kind", "split", "data_fingerprint", "threshold_origin", "human_boxes"}
    if not isinstance(about, dict) or (absent := sorted(needed - about.keys())):
        lacks = ", ".join(absent) if isinstance(about, dict) else "an object"
        raise InputError(f"{folder / 'about.json'}: lacks {lacks}; make the pseudo targets again")
    if about["version"] != VERSION or about["kind"] not in KINDS:
        raise InputError(
            f"{folder / 'about.json'}: expected version {VERSION} and kind {' or '.join(KINDS)}, got "
            f"{about['version']!r} and {about['kind']!r}; make the pseudo targets again"
        )
    return about


def _check_origin(folder: Path, about: Mapping[str, Any]) -> None:
    """Refuse what was made on other images than those of training, or by a threshold chosen on them."""
    if about["split"] != "train":
        raise InputError(
            f"pseudo={folder}: made on the {about['split']} split; a network learns from the train split only: make "
            "them by split=train"
        )
    if about["threshold_origin"] not in ORIGINS:
        raise InputError(
            f"pseudo={folder}: their threshold is of origin {about['threshold_origin']}; expected one of "
            f"{', '.join(ORIGINS)}, since the best threshold on the judged images knows their boxes"
        )


def _digest(folder: Path, kind: str) -> str:
    digest = hashlib.sha256()
    for name in ("about.json", *_FILES[kind]):
        try:
            digest.update(hashlib.sha256(read_regular(folder / name)).digest())
        except OSError as error:
            raise InputError(f"{folder / name}: {error.strerror}; make the pseudo targets again") from error
    return digest.hexdigest()


def _boxes(file: Path) -> tuple[list[str], np.ndarray]:
    """Return the ids and boxes float32 (R, 4) of a table."""
    names, boxes = [], []
    rows = csv.reader(read_regular(file).decode("utf-8", "replace").splitlines())
    if next(rows, None) != ["image", "x0", "y0", "x1", "y1"]:
        raise InputError(f"{file}:1: expected the header image,x0,y0,x1,y1; make the pseudo targets again")
    for row in rows:
        try:
            name, x0, y0, x1, y1 = row
            box = [float(value) for value in (x0, y0, x1, y1)]
        except ValueError:
            raise InputError(f"{file}:{rows.line_num}: expected an image and four numbers, got {row}") from None
        if not (np.isfinite(box).all() and 0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
            raise InputError(f"{file}:{rows.line_num}: expected a box 0 <= x0 < x1, 0 <= y0 < y1, got {box}")
        names.append(name)
        boxes.append(box)
    return names, np.array(boxes, np.float32).reshape(-1, 4)


def _masks(folder: Path, split: Split, about: dict[str, Any]) -> PseudoTargets:
    names = read_regular(folder / "ids.txt").decode("utf-8", "replace").splitlines()
    try:
        files, ends = MappedArray(folder / "masks.npy"), MappedArray(folder / "ends.npy")
    except BROKEN_ARRAY as error:
        raise InputError(f"{folder}: its masks cannot be read ({error}); make the pseudo targets again") from error
    kinds = [(one.values.dtype, one.values.ndim) for one in (files, ends)]
    lengths = np.diff(ends.values, prepend=0) if kinds == [(np.uint8, 1), (np.int64, 1)] else np.array([-1])
    if len(lengths) != len(names) or (lengths <= 0).any() or lengths.sum() != len(files.values):
        raise InputError(f"{folder}: ids.txt, masks.npy and ends.npy do not fit; make the pseudo targets again")
    return PseudoTargets("masks", about, _rows(folder, names, split), masks=(files, ends))


def _rows(folder: Path, names: list[str], split: Split) -> np.ndarray:
    """Row of each image of a split."""
    row_of = {name: row for row, name in enumerate(names)}
    absent = [name for name in split.ids if name not in row_of]
    if absent:
        raise InputError(
            f"pseudo={folder}: nothing for {len(absent):,} of the {len(split):,} training images, such as "
            f"{', '.join(absent[:3])}; make them with the same loader.val_per_class and seed"
        )
    return np.array([row_of[name] for name in split.ids], np.int64)


def check_kind(kind: str) -> None:
    """Refuse what is no kind of pseudo target."""
    if kind not in KINDS:
        raise unknown("pseudo", kind, KINDS)
