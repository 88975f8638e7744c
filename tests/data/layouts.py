"""Small datasets written exactly in the layouts of the published ones.

Every image is grey noise with one block of its class's colour, and the block is what its box says. Box conventions are
those of each dataset. Every function takes a folder that need not exist and returns the dataset's root.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from wsol.errors import InputError

SYNSETS = ("n01443537", "n01698640", "n02123045", "n02504458", "n03584254")
"""Goldfish, American alligator, tabby, African elephant, iPod: sorted."""

WORDS = ("goldfish, Carassius auratus", "American alligator", "tabby, tabby cat", "African elephant", "iPod")

Box = tuple[int, int, int, int]


def paint(path: Path, label: int, index: int, size: tuple[int, int] = (48, 40)) -> Box:
    """Write an image and return the block's half-open box."""
    rng = np.random.default_rng([label, index])
    width, height = size
    pixels = rng.integers(90, 166, (height, width, 3), dtype=np.uint8)
    w, h = int(rng.integers(width // 4, width // 2)), int(rng.integers(height // 4, height // 2))
    x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
    pixels[y : y + h, x : x + w] = [(230, 20, 20), (20, 230, 20), (20, 20, 230), (230, 230, 20), (20, 230, 230)][
        label % 5
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="PNG" if path.suffix == ".png" else "JPEG", quality=90)
    return x, y, x + w, y + h


def told(call: Callable[[], object]) -> str:
    """What `InputError` a call raises; empty if none, and no other error is let pass."""
    try:
        call()
    except InputError as error:
        return str(error)
    return ""


def write(path: Path, rows: list[str]) -> None:
    """Write lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))


def make_cub(root: Path, classes: int = 3, per_class: int = 4, class_ids: tuple[int, ...] | None = None) -> Path:
    """CUB-200-2011; every second image is for training. ``class_ids`` need not start at 1 nor be contiguous."""
    ids = class_ids or tuple(range(1, classes + 1))
    tables: dict[str, list[str]] = {
        n: [] for n in ("images", "image_class_labels", "bounding_boxes", "train_test_split")
    }
    for label, class_id in enumerate(ids):
        folder = f"{class_id:03d}.Bird_{class_id}"
        for k in range(per_class):
            image = 1 + label * per_class + k
            x0, y0, x1, y1 = paint(root / "images" / folder / f"Bird_{k:04d}_{image}.jpg", label, k)
            tables["images"].append(f"{image} {folder}/Bird_{k:04d}_{image}.jpg")
            tables["image_class_labels"].append(f"{image} {class_id}")
            tables["bounding_boxes"].append(f"{image} {x0:.1f} {y0:.1f} {x1 - x0:.1f} {y1 - y0:.1f}")
            tables["train_test_split"].append(f"{image} {k % 2}")
    for name, rows in tables.items():
        write(root / f"{name}.txt", rows)
    write(root / "classes.txt", [f"{class_id} {class_id:03d}.Bird_{class_id}" for class_id in ids])
    return root


def make_tiny_imagenet(root: Path, classes: int = 3, per_class: int = 4, val_per_class: int = 2) -> Path:
    """Tiny ImageNet-200; the first training box is one pixel wide, as some are."""
    synsets = SYNSETS[:classes]
    write(root / "wnids.txt", list(reversed(synsets)))
    write(root / "words.txt", [f"{synset}\t{words}" for synset, words in zip(SYNSETS, WORDS, strict=True)])
    annotations = []
    for label, synset in enumerate(synsets):
        boxes = []
        for k in range(per_class):
            box = _inclusive(paint(root / "train" / synset / "images" / f"{synset}_{k}.JPEG", label, k, (64, 64)))
            boxes.append("\t".join(map(str, (f"{synset}_{k}.JPEG", *((63, 10, 63, 53) if k == 0 else box)))))
        write(root / "train" / synset / f"{synset}_boxes.txt", boxes)
        for k in range(val_per_class):
            name = f"val_{label * val_per_class + k}.JPEG"
            box = _inclusive(paint(root / "val" / "images" / name, label, 1000 + k, (64, 64)))
            annotations.append("\t".join(map(str, (name, synset, *box))))
    write(root / "val" / "val_annotations.txt", annotations)
    return root


def make_ilsvrc(
    root: Path,
    classes: int = 3,
    per_class: int = 3,
    val_per_class: int = 2,
    kaggle: bool = False,
    flat: bool = True,
    annotations: str | None = "xml",
) -> Path:
    """ILSVRC CLS-LOC; validation classes follow one another as in a shuffled deck, and every image has two boxes.

    Args:
        root: the dataset's folder.
        classes: up to 5.
        per_class: training images of each.
        val_per_class: validation images of each.
        kaggle: Kaggle's folders instead of the plain ones.
        flat: validation images flat, or in synset folders.
        annotations: ``xml``, ``csv`` or None.
    """
    base = root / "ILSVRC/Data/CLS-LOC" if kaggle else root
    xml = root / ("ILSVRC/Annotations/CLS-LOC/val" if kaggle else "Annotations/val")
    for label, synset in enumerate(SYNSETS[:classes]):
        for k in range(per_class):
            paint(base / "train" / synset / f"{synset}_{k}.JPEG", label, k)
    rows = ["ImageId,PredictionString"]
    for i in range(classes * val_per_class):
        label = (i * 2 + 1) % classes if classes % 2 else i % classes
        stem = f"ILSVRC2012_val_{i + 1:08d}"
        folder = base / "val" if flat else base / "val" / SYNSETS[label]
        boxes = [_inclusive(paint(folder / f"{stem}.JPEG", label, 1000 + i)), (0, 0, 47, 39)]
        rows.append(f"{stem}," + "".join(f"{SYNSETS[label]} {' '.join(map(str, box))} " for box in boxes))
        if annotations == "xml":
            write(xml / f"{stem}.xml", [voc_xml(stem, SYNSETS[label], boxes)])
    if annotations == "csv":
        write(root / "LOC_val_solution.csv", rows)
    named = zip(SYNSETS[:classes], WORDS[:classes], strict=True)
    write(root / "LOC_synset_mapping.txt", [f"{synset} {words}" for synset, words in named])
    return root


def voc_xml(stem: str, synset: str, boxes: list[Box], size: tuple[int, int] = (48, 40)) -> str:
    """An annotation as ILSVRC has it."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    objects = "".join(
        f"<object><name>{synset}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
        + "".join(f"<{corner}>{value}</{corner}>" for corner, value in zip(corners, box, strict=True))
        + "</bndbox></object>"
        for box in boxes
    )
    return (
        f"<annotation><folder>val</folder><filename>{stem}</filename><source><database>ILSVRC_2012</database></source>"
        f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size><segmented>0</segmented>"
        f"{objects}</annotation>"
    )


def make_lists(root: Path, classes: int = 3, per_class: int = 3, proxy: bool = True) -> Path:
    """Lists as wsolevaluation has them in ``root/metadata``, images in ``root/images``, two boxes for each."""
    for seed, split in enumerate(("train", "val", "test")):
        tables: dict[str, list[str]] = {n: [] for n in ("image_ids", "class_labels", "image_sizes", "localization")}
        for label in range(classes):
            for k in range(per_class):
                image = f"{label + 1:03d}.Bird_{label + 1}/{split}_{k}.jpg"
                box = _inclusive(paint(root / "images" / image, label, 100 * seed + k))
                tables["image_ids"].append(image)
                tables["class_labels"].append(f"{image},{label}")
                tables["image_sizes"].append(f"{image},48,40")
                tables["localization"] += [f"{image},{','.join(map(str, b))}" for b in (box, (1, 1, 1, 9))]
        _write_lists(root / "metadata" / split, tables)
    if proxy:
        ids = (root / "metadata/train/image_ids.txt").read_text().split()
        write(root / "metadata/train/image_ids_proxy.txt", ids[::per_class])
    return root


def make_openimages(root: Path, classes: int = 3, per_class: int = 2) -> Path:
    """OpenImages30k's lists in ``root/metadata``, images and masks in ``root/images``.

    An image's objects have a mask each, the block and a 4x4 corner; pixels of the top row are to be ignored. Masks of
    the second image of each class are twice as large as the image. Training images have empty lists of masks and sizes.
    """
    for seed, split in enumerate(("train", "val", "test")):
        tables: dict[str, list[str]] = {n: [] for n in ("image_ids", "class_labels", "image_sizes", "localization")}
        for label in range(classes):
            for k in range(per_class):
                stem = f"{split}/0{label}abc/{seed}{label}{k}"
                box = paint(root / "images" / f"{stem}.jpg", label, 100 * seed + k)
                tables["image_ids"].append(f"{stem}.jpg")
                tables["class_labels"].append(f"{stem}.jpg,{label}")
                if split != "train":
                    for name, b in (("m1", box), ("m2", (0, 0, 4, 4)), ("ignore", (0, 0, 48, 1))):
                        _paint_mask(root / "images" / f"{stem}_{name}.png", b, scale=1 + k % 2)
                    tables["localization"].append(f"{stem}.jpg,{stem}_m1.png,{stem}_ignore.png")
                    tables["localization"].append(f"{stem}.jpg,{stem}_m2.png,")
        _write_lists(root / "metadata" / split, tables)
    return root


def make_folder(
    root: Path,
    boxes: str | None = "csv",
    splits: tuple[str, ...] = ("train", "val", "test"),
    classes: tuple[str, ...] = ("cat", "dog", "fox"),
    per_class: int = 3,
) -> Path:
    """Class folders; ``boxes`` is ``csv``, ``coco`` or None; without splits the folder is flat."""
    table, images, annotations = [["image", "x0", "y0", "x1", "y1"]], [], []
    for seed, split in enumerate(splits or ("",)):
        for label, name in enumerate(classes):
            for k in range(per_class):
                path = "/".join(part for part in (split, name, f"{split}{k}.jpg") if part)
                box = paint(root / path, label, 100 * seed + k)
                if split == "train":
                    continue
                x0, y0, x1, y1 = box
                table.append([path, *map(str, box)])
                images.append({"id": len(images) + 1, "file_name": path, "width": 48, "height": 40})
                bbox = [x0, y0, x1 - x0, y1 - y0]
                annotations.append({"id": len(images), "image_id": len(images), "category_id": label, "bbox": bbox})
    if boxes == "csv":
        with (root / "boxes.csv").open("w", newline="") as file:
            csv.writer(file).writerows(table)
    if boxes == "coco":
        content = {"images": images, "annotations": annotations, "categories": []}
        (root / "annotations.json").write_text(json.dumps(content))
    return root


def pack_tar(folder: Path, path: Path, prefix: str = "") -> Path:
    """Pack a folder's files as a tar (gzip if its name says so), each under ``prefix``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix in (".tgz", ".gz") else "w") as tar:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            tar.add(file, arcname=prefix + file.relative_to(folder).as_posix())
    return path


def pack_nested_tar(folder: Path, path: Path) -> Path:
    """Pack each folder of a folder as a tar of its name, and these as one tar, as ILSVRC's training images are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for part in sorted(p for p in folder.iterdir() if p.is_dir()):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as inner:
                for file in sorted(part.iterdir()):
                    inner.add(file, arcname=file.name)
            info = tarfile.TarInfo(f"{part.name}.tar")
            info.size = len(buffer.getvalue())
            tar.addfile(info, io.BytesIO(buffer.getvalue()))
    return path


def pack_zip(folder: Path, path: Path, prefix: str = "") -> Path:
    """Pack a folder's files as a zip, each under ``prefix``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as bundle:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            bundle.write(file, arcname=prefix + file.relative_to(folder).as_posix())
    return path


def _inclusive(box: Box) -> Box:
    return box[0], box[1], box[2] - 1, box[3] - 1


def _paint_mask(path: Path, box: Box, scale: int, size: tuple[int, int] = (48, 40)) -> None:
    mask = np.zeros((size[1] * scale, size[0] * scale), dtype=np.uint8)
    x0, y0, x1, y1 = (side * scale for side in box)
    mask[y0:y1, x0:x1] = 255
    Image.fromarray(mask).save(path)


def _write_lists(folder: Path, tables: dict[str, list[str]]) -> None:
    """As published: no newline at the end of a list."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        (folder / f"{name}.txt").write_text("\n".join(rows))
