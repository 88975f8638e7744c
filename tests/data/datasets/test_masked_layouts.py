"""Datasets with masks in their published layouts, Stanford Dogs, and folders of masks."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from layouts import paint, told, write
from PIL import Image
from scipy.io import savemat

from wsol.data.datasets.busi import BUSI
from wsol.data.datasets.caltech101 import Caltech101
from wsol.data.datasets.folder import Folder
from wsol.data.datasets.glas import GlaS
from wsol.data.datasets.oxford_pet import OxfordPet
from wsol.data.datasets.stanford_dogs import StanfordDogs
from wsol.data.file_source import verify_source

SIZE = (48, 40)
Box = tuple[int, int, int, int]


def boxes_of(split, name: str) -> list[list[float]] | None:
    """The true boxes of an image by its id."""
    truth = split.truth(list(split.ids).index(name))
    return None if truth is None else truth.boxes.tolist()


def save_mask(path: Path, box: Box | None, value: int = 255, size: tuple[int, int] = SIZE) -> None:
    """Write a mask with a filled box."""
    pixels = np.zeros(size[::-1], np.uint8)
    if box is not None:
        pixels[box[1] : box[3], box[0] : box[2]] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, dict[str, Box]]:
    """Two classes with masks; the last image of each class of test shows no object."""
    root, found = tmp_path / "root", {}
    for split, count in (("train", 2), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            for k in range(count):
                path = f"{split}/{name}/{k}.jpg"
                found[path] = paint(root / path, label, k)
                if split == "test":
                    save_mask(root / "masks" / f"test/{name}/{k}.png", None if k == 2 else found[path])
    return root, found


def test_a_folder_of_masks_gives_boxes_and_masks(folder: tuple[Path, dict[str, Box]]) -> None:
    root, blocks = folder
    source = Folder(root, masks="masks")
    test = pickle.loads(pickle.dumps(source.split("test")))
    assert not source.split("train").has_boxes
    assert not source.split("train").has_masks
    assert len(test) == 6
    for i, name in enumerate(test.ids):
        mask = test.mask(i)
        if name.endswith("2.jpg"):
            assert mask is None
            assert boxes_of(test, name) is None
        else:
            x0, y0, x1, y1 = blocks[name]
            assert boxes_of(test, name) == [[x0, y0, x1, y1]]
            assert mask is not None
            assert mask.sum() == (x1 - x0) * (y1 - y0)
    found = test.unmarked()
    assert found == {"images": 2, "first": ["test/cat/2.jpg", "test/dog/2.jpg"]}
    assert test.counts()["boxes"] == 4
    report = verify_source(partial(Folder, root, masks="masks"))
    assert report.ok
    assert any(
        "test: 2 images have no mask, or one without an object, such as test/cat/2.jpg" in n for n in report.notes
    )


def test_given_boxes_stand_before_those_of_masks(folder: tuple[Path, dict[str, Box]]) -> None:
    root, blocks = folder
    write(root / "boxes.csv", ["image,x0,y0,x1,y1", "test/cat/0.jpg,1,2,20,30"])
    test = Folder(root, boxes="boxes.csv", inclusive=True, masks="masks").split("test")
    assert boxes_of(test, "test/cat/0.jpg") == [[1, 2, 20, 30]]
    x0, y0, x1, y1 = blocks["test/dog/0.jpg"]
    assert boxes_of(test, "test/dog/0.jpg") == [[x0, y0, x1 - 1, y1 - 1]]  # named as the CSV names ends


def test_one_value_is_the_object(folder: tuple[Path, dict[str, Box]]) -> None:
    root, blocks = folder
    save_mask(root / "masks/test/cat/0.png", blocks["test/cat/0.jpg"], value=7)
    assert boxes_of(Folder(root, masks="masks", mask_value=255).split("test"), "test/cat/0.jpg") is None
    assert boxes_of(Folder(root, masks="masks", mask_value=255).split("test"), "test/cat/1.jpg") is not None
    assert "mask_value must be a whole number from 1 to 255" in told(lambda: Folder(root, masks="masks", mask_value=0))


def test_a_jpeg_mask_has_noise_around_its_object(folder: tuple[Path, dict[str, Box]]) -> None:
    root, blocks = folder
    name, (x0, y0, x1, y1) = "test/cat/0.jpg", blocks["test/cat/0.jpg"]
    clean = np.asarray(Image.open(root / "masks/test/cat/0.png"))
    for mask in sorted((root / "masks").rglob("*.png")):
        Image.open(mask).convert("L").save(mask.with_suffix(".jpg"), quality=75)
        mask.unlink()
    test = Folder(root, masks="masks").split("test")
    mask = test.mask(list(test.ids).index(name))
    assert mask is not None
    assert (mask == 1).mean() == pytest.approx((clean > 0).mean(), abs=0.02)
    assert boxes_of(test, name) == pytest.approx(np.array([[x0, y0, x1, y1]]), abs=1)
    assert "needs PNG files" in told(lambda: Folder(root, masks="masks", mask_value=255).split("test"))


def test_faulty_masks_are_named(folder: tuple[Path, dict[str, Box]]) -> None:
    root, blocks = folder
    mask = root / "masks/test/cat/0.png"
    save_mask(mask, (0, 0, 4, 4), size=(10, 12))
    message = told(lambda: Folder(root, masks="masks"))
    assert f"{mask}: a mask of 10 x 12 pixels, but its image test/cat/0.jpg is 48 x 40" in message
    mask.write_text("no image")
    message = told(lambda: Folder(root, masks="masks"))
    assert str(mask) in message
    assert "not an image" in message
    mask.unlink()
    assert "1 of the 6 images of 'test' have no mask, such as test/cat/0.jpg" in told(
        lambda: Folder(root, masks="masks")
    )
    save_mask(mask, blocks["test/cat/0.jpg"])
    save_mask(root / "masks/test/cat/other.png", None)
    assert "other.png: names no image" in told(lambda: Folder(root, masks="masks"))
    assert "no such folder" in told(lambda: Folder(root, masks="elsewhere"))


@pytest.mark.parametrize("apart", [False, True])
def test_busi(tmp_path: Path, apart: bool) -> None:
    for label, name in enumerate(("benign", "malignant", "normal")):
        for number in (1, 61, 71):
            stem = f"{name}_{number}" if apart else f"{name} ({number})"
            box = paint(tmp_path / ("images" if apart else "") / name / f"{stem}.png", label, number)
            masks = tmp_path / "masks" / name / f"{stem}.png" if apart else tmp_path / name / f"{stem}_mask.png"
            save_mask(masks, None if name == "normal" else box)
    if not apart:
        save_mask(tmp_path / "benign" / "benign (1)_mask_1.png", (0, 0, 48, 40))
    source = BUSI(tmp_path)
    assert source.classes == ("benign", "malignant", "normal")
    assert {name: len(source.split(name)) for name in source.splits} == {"train": 3, "val": 3, "test": 3}
    train, test = source.split("train"), source.split("test")
    assert train.labels.tolist() == [0, 1, 2]
    assert train.truth(2) is None
    assert train.mask(2) is None
    if not apart:  # the mask is the union of both
        assert train.truth(0).boxes.tolist() == [[0, 0, 48, 40]]
    assert test.truth(0) is not None
    first = next(tmp_path.rglob("malignant*71*.png" if not apart else "masks/malignant/*71.png"))
    mask = first if apart else first.with_name("malignant (71)_mask.png")
    mask.unlink()
    assert "no mask" in told(lambda: BUSI(tmp_path))


def make_caltech(root: Path, per_class: int = 3) -> dict[str, Box]:
    """Outlines of rectangles; MATLAB counts from 1."""
    found = {}
    for label, (name, folder) in enumerate((("airplanes", "Airplanes_Side_2"), ("ant", "ant"))):
        for k in range(1, per_class + 1):
            x0, y0, x1, y1 = found[f"{name}/image_{k:04d}.jpg"] = paint(
                root / "101_ObjectCategories" / name / f"image_{k:04d}.jpg", label, k
            )
            (root / "Annotations" / folder).mkdir(parents=True, exist_ok=True)
            xs, ys = np.array([0, x1 - x0 - 1]), np.array([0, y1 - y0 - 1])
            contour = np.array([[xs[0], xs[1], xs[1], xs[0]], [ys[0], ys[0], ys[1], ys[1]]], float)
            box = np.array([[y0 + 1, y1, x0 + 1, x1]], np.uint16)
            savemat(
                root / "Annotations" / folder / f"annotation_{k:04d}.mat", {"box_coord": box, "obj_contour": contour}
            )
    return found


def test_caltech101_contours(tmp_path: Path) -> None:
    blocks = make_caltech(tmp_path)
    source = Caltech101(tmp_path, train_per_class=1)
    train, test = source.split("train"), source.split("test")
    assert (len(train), len(test)) == (2, 4)
    assert not set(train.ids) & set(test.ids)
    for i, name in enumerate(test.ids):
        x0, y0, x1, y1 = blocks[name]
        assert boxes_of(test, name) == [[x0, y0, x1, y1]]
        expected = np.zeros(SIZE[::-1], np.uint8)
        expected[y0:y1, x0:x1] = 1
        assert np.array_equal(test.mask(i), expected)
    write(tmp_path / "split.csv", ["image,split", "ant/image_0001.jpg,train", "airplanes/image_0002.jpg,test"])
    listed = Caltech101(tmp_path, split_list="split.csv")
    assert list(listed.split("train").ids) == ["ant/image_0001.jpg"]
    assert list(listed.split("test").ids) == ["airplanes/image_0002.jpg"]
    write(tmp_path / "split.csv", ["image,split", "ant/image_0009.jpg,train"])
    assert "split.csv:2: 'ant/image_0009.jpg' is not among" in told(
        lambda: Caltech101(tmp_path, split_list="split.csv")
    )
    broken = tmp_path / "Annotations/ant/annotation_0001.mat"
    broken.write_bytes(b"MATLAB 5.0")
    assert f"{broken}: not an annotation of Caltech-101" in told(lambda: Caltech101(tmp_path, train_per_class=1))


def test_oxford_pet(tmp_path: Path) -> None:
    rows: dict[str, list[str]] = {"trainval": [], "test": []}
    blocks = {}
    for number, breed in ((1, "Abyssinian"), (5, "great_pyrenees")):
        for k, split in enumerate(rows):
            name = f"{breed}_{k}"
            x0, y0, x1, y1 = blocks[name] = paint(tmp_path / "images" / f"{name}.jpg", number, k)
            trimap = np.full(SIZE[::-1], 2, np.uint8)
            trimap[y0:y1, x0:x1] = 3
            trimap[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = 1
            (tmp_path / "annotations/trimaps").mkdir(parents=True, exist_ok=True)
            Image.fromarray(trimap).save(tmp_path / "annotations/trimaps" / f"{name}.png")
            rows[split].append(f"{name} {number} 1 1")
    for split, lines in rows.items():
        write(tmp_path / "annotations" / f"{split}.txt", ["#Image CLASS-ID SPECIES BREED", *lines][1:])
    source = OxfordPet(tmp_path)
    assert source.classes == ("Abyssinian", "great_pyrenees")
    test = source.split("test")
    assert list(test.ids) == ["Abyssinian_1", "great_pyrenees_1"]
    x0, y0, x1, y1 = blocks["great_pyrenees_1"]
    assert boxes_of(test, "great_pyrenees_1") == [[x0 + 1, y0 + 1, x1 - 1, y1 - 1]]
    mask = test.mask(1)
    assert mask is not None
    assert (mask[y0, x0], mask[y0 + 1, x0 + 1], mask[0, 0] if (x0, y0) != (0, 0) else 0) == (255, 1, 0)
    write(tmp_path / "annotations/test.txt", ["Abyssinian_1 x 1 1"])
    assert "test.txt:1: expected a class id from 1, got 'x'" in told(lambda: OxfordPet(tmp_path))


def test_glas(tmp_path: Path) -> None:
    rows = ["name, patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    for k, (name, grade) in enumerate((("train_1", "benign"), ("testA_1", "malignant"), ("testB_2", "benign"))):
        Image.fromarray(np.full((40, 48, 3), 99, np.uint8)).save(tmp_path / f"{name}.bmp")
        pixels = np.zeros((40, 48), np.uint8)
        pixels[4:10, 5:12], pixels[20:30, 30:40] = 1, 2  # two glands
        Image.fromarray(pixels).save(tmp_path / f"{name}_anno.bmp")
        rows.append(f"{name}, {k}, {grade}, adenoma")
    write(tmp_path / "Grade.csv", rows)
    source = GlaS(tmp_path)
    test = source.split("test")
    assert list(test.ids) == ["testA_1", "testB_2"]
    assert test.labels.tolist() == [1, 0]
    assert boxes_of(test, "testA_1") == [[5, 4, 40, 30]]
    assert test.mask(0).sum() == 6 * 7 + 100
    write(tmp_path / "Grade.csv", [*rows[:-1], "testB_2, 3, grey, adenoma"])
    assert "Grade.csv:4: expected benign or malignant" in told(lambda: GlaS(tmp_path))


def test_stanford_dogs(tmp_path: Path) -> None:
    lists: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    blocks = {}
    for label, breed in enumerate(("n02-Chihuahua", "n03-Pug"), start=1):
        for k, split in enumerate(lists):
            name = f"{breed}/n_{k}"
            x0, y0, x1, y1 = blocks[f"{name}.jpg"] = paint(tmp_path / "Images" / f"{name}.jpg", label, k)
            lists[split].append((f"{name}.jpg", label))
            corners = f"<xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1 - 1}</xmax><ymax>{y1 - 1}</ymax>"
            thing = f"<object><name>{breed}</name><bndbox>{corners}</bndbox></object>"
            write(tmp_path / "Annotation" / name, [f"<annotation>{thing}</annotation>"])
    (tmp_path / "lists").mkdir()
    for split, rows in lists.items():
        cells = np.array([path for path, _ in rows], dtype=object)[:, None]
        labels = np.array([[label] for _, label in rows])
        savemat(tmp_path / "lists" / f"{split}_list.mat", {"file_list": cells, "labels": labels})
    source = StanfordDogs(tmp_path)
    test = source.split("test")
    assert source.classes == ("n02-Chihuahua", "n03-Pug")
    assert test.labels.tolist() == [0, 1]
    truth = test.truth(0)
    assert truth is not None
    assert truth.inclusive
    x0, y0, x1, y1 = blocks[test.ids[0]]
    assert truth.boxes.tolist() == [[x0, y0, x1 - 1, y1 - 1]]
    (tmp_path / "lists/test_list.mat").write_text("x")
    assert "not a list of Stanford Dogs" in told(lambda: StanfordDogs(tmp_path))
