"""Pseudo boxes of val images, made without human annotation, to choose thresholds and checkpoints of origin ``pseudo``.

Murtaza et al. 2025, "A Realistic Protocol for Evaluation of Weakly Supervised Object Localization" (WACV): boxes of a
class-agnostic method on the val split replace the human boxes.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from wsol.data.annotations.box_files import read_boxes
from wsol.data.annotations.text_tables import numbers, read_rows
from wsol.data.packed import Boxes
from wsol.data.source import Split
from wsol.engine import saved_maps
from wsol.engine.split_types import PseudoBoxes
from wsol.errors import InputError, first_line
from wsol.functional.boxes import largest_box
from wsol.interop.map_folder import open_maps
from wsol.protocols import LocalizationProtocol
from wsol.runs.results import read_results

SHOWN = 3


def read_pseudo_boxes(source: str | Path, split: Split, inclusive: bool = False) -> PseudoBoxes:
    """Read or compute the pseudo boxes of a split.

    Args:
        source: a list in the format of wsolevaluation's localization.txt (``<image id>,<x0>,<y0>,<x1>,<y1>``, without
            header); boxes as CSV (``image,x0,y0,x1,y1``) or COCO JSON, such as ``predictions.csv`` of `wsol predict`;
            or the folder of ``wsol eval split=val save_maps=true`` with class-agnostic maps, whose boxes are made by
            its first protocol with a fixed threshold. A box 0, 0, 0, 0 means that none was found.
        split: the split of the boxes.
        inclusive: whether x1, y1 of a list or CSV name the last pixel inside.

    Raises:
        InputError: no such source, a faulty line, images that the split does not have, no boxes, or maps of
            another dataset, or of classes.
    """
    path = Path(source)
    if path.is_dir():
        return _of_evaluation(path, split)
    if not path.is_file():
        raise InputError(
            f"pseudo_boxes={source}: no such file or folder; expected a list of boxes (.txt, .csv, COCO .json) or the "
            "folder of `wsol eval split=val save_maps=true`"
        )
    given: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    if path.suffix.lower() in (".csv", ".json"):
        found = read_boxes(path, inclusive)
        inclusive = found.inclusive
        for name, marked in found.boxes.items():
            given[name] += [one.box for one in marked]
    else:
        for row in read_rows(path, 5):
            corners = numbers(row)
            if corners is not None:
                given[row.fields[0]].append(corners)
    found_in = {name: [box for box in boxes if any(box)] for name, boxes in given.items()}
    of_image = _matched(found_in, split, path)
    boxes = Boxes.pack([np.array(of_image.get(name, [])).reshape(-1, 4) for name in split.ids], inclusive)
    _check(boxes, split, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return PseudoBoxes(boxes, {"source": str(path), "sha256": digest, "images": sum(map(bool, of_image.values()))})


def _matched(given: dict[str, list[Any]], split: Split, path: Path) -> dict[str, list[Any]]:
    """Return the boxes by id of the split: a name is an id, or a longer path that ends with one."""
    ids, found, strange = frozenset(split.ids), {}, []
    for name, boxes in given.items():
        parts = name.replace("\\", "/").split("/")
        endings = ["/".join(parts[start:]) for start in range(len(parts))]
        meant = next((one for ending in endings for one in (ending, ending.rpartition(".")[0]) if one in ids), None)
        if meant is None or meant in found:
            strange.append(name)
        else:
            found[meant] = boxes
    if strange:
        raise InputError(
            f"{path}: {len(strange):,} images that the {split.name} split does not have, or has once only, such as "
            f"{', '.join(strange[:SHOWN])}; give the boxes of this split, by image id"
        )
    return found


def _check(boxes: Boxes, split: Split, source: Path) -> None:
    """Refuse boxes without area or with values that are not finite, and a source without boxes."""
    if not len(boxes.corners):
        raise InputError(
            f"{source}: no box of an image of the {split.name} split; give boxes, or leave pseudo_boxes out"
        )
    far = boxes.corners[:, 2:] + boxes.inclusive
    is_bad = ~np.isfinite(boxes.corners).all(1) | (far <= boxes.corners[:, :2]).any(1)
    if is_bad.any():
        row = int(is_bad.argmax())
        image = split.ids[int(np.searchsorted(boxes.ends, row, side="right"))]
        raise InputError(f"{source}: {image}: expected a box x0 < x1, y0 < y1, got {boxes.corners[row].tolist()}")


def _of_evaluation(folder: Path, split: Split) -> PseudoBoxes:
    """Return the boxes of the saved maps of an evaluation."""
    kept = folder / "maps" / split.name
    if not kept.is_dir() or not (folder / "results.json").is_file():
        raise InputError(
            f"pseudo_boxes={folder}: has no maps of the {split.name} split; expected the folder of `wsol eval "
            f"split={split.name} save_maps=true explainer=...` with a class-agnostic explainer"
        )
    maps = open_maps(kept)
    about = maps.about().get("made_of", {})
    if not about.get("class_agnostic"):
        raise InputError(
            f"pseudo_boxes={folder}: its maps are of classes; pseudo boxes come from a class-agnostic explainer, such "
            "as lost, tokencut or patch_pca"
        )
    saved_maps.check(maps, split)
    protocol = _fixed(read_results(folder / "results.json").get("protocols", {}), folder)
    boxes = [_boxed(protocol, *maps.read(name, split.size(at))) for at, name in enumerate(split.ids)]
    packed = Boxes.pack(boxes, inclusive=False)
    _check(packed, split, folder)
    fact = {"protocol": protocol.name, "threshold": protocol.fixed_threshold}
    return PseudoBoxes(packed, {"source": str(folder), **fact, "images": sum(len(one) > 0 for one in boxes)})


def _fixed(protocols: dict[str, Any], folder: Path) -> LocalizationProtocol:
    """Return the first protocol with a fixed threshold."""
    for fields in protocols.values():
        if isinstance(fields, dict) and fields.get("fixed_threshold") is not None:
            given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
            try:
                return LocalizationProtocol(**given)
            except TypeError as error:
                raise InputError(
                    f"{folder / 'results.json'}: protocols: not those of this version ({first_line(error)}); evaluate "
                    "again"
                ) from error
    raise InputError(
        f"pseudo_boxes={folder}: none of its protocols has a fixed threshold, and a threshold that was chosen with "
        "human boxes cannot make pseudo boxes; evaluate again, for example with protocol=[cam2016]"
    )


def _boxed(protocol: LocalizationProtocol, score_maps: np.ndarray, views: Iterable[Any]) -> np.ndarray:
    """Return the largest box of an image's maps: float64 (1, 4), or (0, 4) if there is none."""
    found = largest_box(protocol.predict(*protocol.merge(score_maps, list(views))))
    return np.zeros((0, 4)) if found is None else found[None]
