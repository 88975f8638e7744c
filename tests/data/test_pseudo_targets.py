"""Pseudo targets: moved by training transforms like the pixels, written and read, refused where they may not be."""

from __future__ import annotations

import io
import json
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsol.data.module import LocalizationData
from wsol.data.pseudo_targets import carry_box, carry_mask, pack_mask, read_pseudo_targets, write_pseudo_targets
from wsol.data.source import Source, Split
from wsol.data.transforms import RandomCrop, RandomResizedCrop, ResizeSquare, SmallCrop, TrainTransform
from wsol.errors import InputError

TRANSFORMS = {
    "square": RandomCrop(64, 80),
    "shorter": RandomCrop(64, 80, square=False),
    "resized_crop": RandomResizedCrop(64, scale=(0.2, 1.0)),
    "small": SmallCrop(64, 8),
}
COUNT = 12
BOX = (4.0, 2.0, 20.0, 12.0)
"""Of the only bright pixels of each image of `Bright`, 24 x 16."""
ABOUT = {"split": "train", "threshold_origin": "fixed", "human_boxes": False}


def bounding_box(mask: np.ndarray) -> list[int]:
    """Half-open x0, y0, x1, y1 of what is marked."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize("name", TRANSFORMS)
@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(40, 160),
    height=st.integers(40, 160),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
    seed=st.integers(0, 2**20),
)
def test_a_box_lies_around_its_pixels(name: str, width: int, height: int, corners: tuple, seed: int) -> None:
    xs, ys = sorted(corners[:2]), sorted(corners[2:])
    x0, y0 = int(xs[0] * (width - 8)), int(ys[0] * (height - 8))
    x1, y1 = max(int(xs[1] * width), x0 + 8), max(int(ys[1] * height), y0 + 8)
    image, mask = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    image[y0:y1, x0:x1], mask[y0:y1, x0:x1] = 255, 1
    pixels, view = TRANSFORMS[name].draw(image, np.random.default_rng(seed))
    assert np.array_equal(pixels, TRANSFORMS[name](image, np.random.default_rng(seed)))
    box, carried = carry_box(np.array([x0, y0, x1, y1]), view), carry_mask(mask, view)
    assert set(np.unique(carried)) <= {0, 1}
    if not carried.any():
        assert np.isnan(box).all() or ((box[2:] - box[:2]).min() <= 1)
        return
    assert np.abs(box - bounding_box(carried)).max() <= 1
    seen = pixels[0] >= 128
    if name == "small":  # reflects the image at its edges, the box not
        assert np.mean(carried.astype(bool) & ~seen) <= 2 * (64 + 64) / 64**2
        return
    assert np.mean(seen != carried.astype(bool)) <= 2 * (64 + 64) / 64**2
    if seen.any():
        assert np.abs(box - bounding_box(seen)).max() <= 2  # antialiasing blurs edges of what is enlarged or shrunk


class Bright(Source):
    """Images with a bright rectangle at `BOX`, in two classes."""

    classes, splits = ("a", "b"), ("train",)

    def _split(self, name: str) -> Split:
        return BrightSplit(name, [f"{i}.png" for i in range(COUNT)], np.arange(COUNT) % 2)


class BrightSplit(Split):
    def _read_image(self, row: int) -> np.ndarray:
        image = np.zeros((16, 24, 3), np.uint8)
        image[2:12, 4:20] = 255
        return image


def written(folder: Path, kind: str = "boxes", **about: object) -> Path:
    """A folder of pseudo targets of `Bright`, all of them its bright rectangle."""
    folder.mkdir()
    mask = np.zeros((16, 24), bool)
    mask[2:12, 4:20] = True
    one = np.array(BOX) if kind == "boxes" else pack_mask(mask)
    facts = {"data_fingerprint": Bright().split("train").fingerprint(), **ABOUT, **about}
    write_pseudo_targets(folder, kind, ((f"{i}.png", one) for i in reversed(range(COUNT))), facts)  # type: ignore[arg-type]
    return folder


def data_of(folder: Path | None, transform: TrainTransform | None = None, **settings: object) -> LocalizationData:
    transform = transform or RandomResizedCrop(32, scale=(0.5, 1.0))
    return LocalizationData(Bright(), transform, ResizeSquare(32), pseudo=folder, **{"num_workers": 0, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_batches_bring_the_targets_where_the_pixels_are(tmp_path: Path, kind: str) -> None:
    folder = written(tmp_path / "pseudo", kind)
    data, plain = data_of(folder, batch_size=4), data_of(None, batch_size=4)
    loader, bare = data.train_dataloader(), plain.train_dataloader()
    for batch, without in zip(loader, bare, strict=True):
        assert torch.equal(batch.images, without.images)  # targets change nothing else
        assert without.pseudo is None
        bright = batch.images[:, 0] >= 128
        if kind == "masks":
            assert batch.pseudo.shape == (4, 1, 32, 32)
            assert batch.pseudo.dtype == torch.uint8
            assert (batch.pseudo[:, 0].bool() == bright).float().mean() > 0.9
        else:
            assert batch.pseudo.shape == (4, 4)
            assert batch.pseudo.dtype == torch.float32
            for box, one in zip(batch.pseudo.numpy(), bright.numpy(), strict=True):
                assert np.abs(box - bounding_box(one)).max() <= 2
    evaluated = next(iter(data.eval_dataloader("train")))
    assert evaluated.pseudo is None


def test_targets_do_not_depend_on_worker_processes(tmp_path: Path) -> None:
    for kind in ("boxes", "masks"):
        folder = written(tmp_path / kind, kind)
        batches = [list(data_of(folder, batch_size=4, num_workers=n).train_dataloader()) for n in (0, 2)]
        for one, other in zip(*batches, strict=True):
            assert torch.equal(one.pseudo, other.pseudo)
        targets = data_of(folder).pseudo
        assert targets is not None
        view = SmallCrop(32, 0, flip=False).draw(np.zeros((16, 24, 3), np.uint8), np.random.default_rng(0))[1]
        again = pickle.loads(pickle.dumps(targets))  # as a spawned worker gets them
        assert np.array_equal(again.target(3, view), targets.target(3, view))


@pytest.mark.parametrize("count", [0, 1, 40])
def test_masks_that_come_one_by_one_are_the_bytes_of_an_array(tmp_path: Path, count: int) -> None:
    """The reference joins them in memory; the writer never holds them all."""
    sizes = np.random.default_rng(0).integers(1, 2**18, count).tolist()
    made = [bytes([i]) * size for i, size in enumerate(sizes)]
    tracemalloc.start()
    write_pseudo_targets(
        tmp_path, "masks", ((f"{i}", bytes([i]) * size) for i, size in enumerate(sizes)), {**ABOUT, "more": 1}
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    expected = io.BytesIO()
    np.save(expected, np.frombuffer(b"".join(made), np.uint8))
    assert (tmp_path / "masks.npy").read_bytes() == expected.getvalue()
    expected = io.BytesIO()
    np.save(expected, np.cumsum(sizes, dtype=np.int64))
    assert (tmp_path / "ends.npy").read_bytes() == expected.getvalue()
    assert (tmp_path / "ids.txt").read_text() == "".join(f"{i}\n" for i in range(count))
    assert json.loads((tmp_path / "about.json").read_text()) == {
        "version": 1,
        "kind": "masks",
        **ABOUT,
        "more": 1,
        "images": count,
    }


def test_held_out_images_have_no_part(tmp_path: Path) -> None:
    data = data_of(written(tmp_path / "pseudo"), val_per_class=2)
    assert len(data.split("train")) == COUNT - 4
    assert data.pseudo is not None
    assert len(data.pseudo.rows) == COUNT - 4
    for position, name in enumerate(data.split("train").ids):
        assert data.pseudo.rows[position] == COUNT - 1 - int(name.removesuffix(".png"))


REFUSED = [
    ({"data_fingerprint": "0"}, "made on the train split of another dataset"),
    ({"split": "test"}, "made on the test split; a network learns from the train split only"),
    ({"split": "val"}, "made on the val split"),
    ({"threshold_origin": "oracle"}, "of origin oracle; expected one of fixed, pseudo, fullsup"),
    ({"threshold_origin": "none"}, "of origin none"),
    ({"version": 2}, "expected version 1"),
    ({"kind": "points"}, "expected version 1 and kind boxes or masks"),
    ({"human_boxes": None}, "lacks human_boxes"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_may_not_be_learned_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    file = written(tmp_path / "pseudo") / "about.json"
    about = {**json.loads(file.read_text()), **change}
    file.write_text(json.dumps({key: value for key, value in about.items() if value is not None}))
    with pytest.raises(InputError, match=message):
        data_of(file.parent)


LINES = [
    ("3.png,4,2,20,12", "3.png,4,2,20", r"boxes.csv:\d+: expected an image and four numbers"),
    ("3.png,4,2,20,12", "3.png,4,2,4,12", r"boxes.csv:\d+: expected a box 0 <= x0 < x1"),
    ("3.png,4,2,20,12", "3.png,4,2,nan,12", r"boxes.csv:\d+: expected a box"),
    ("3.png,4,2,20,12", "x.png,4,2,20,12", "nothing for 1 of the 12 training images, such as 3.png"),
    ("image,x0,y0,x1,y1", "image,x,y,width,height", "expected the header image,x0,y0,x1,y1"),
]


@pytest.mark.parametrize(("before", "after", "message"), LINES)
def test_a_faulty_table_is_refused(tmp_path: Path, before: str, after: str, message: str) -> None:
    file = written(tmp_path / "pseudo") / "boxes.csv"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))
    with pytest.raises(InputError, match=message):
        data_of(file.parent)


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no pseudo targets there.*split=train"):
        data_of(tmp_path / "nowhere")
    folder = written(tmp_path / "masks", "masks")
    np.save(folder / "ends.npy", np.load(folder / "ends.npy")[:-1])
    with pytest.raises(InputError, match=r"ids.txt, masks.npy and ends.npy do not fit"):
        data_of(folder)
    for ends in (np.zeros(()), np.array(["a"] * 12), np.zeros((12, 2), np.int64)):
        np.save(folder / "ends.npy", ends)
        with pytest.raises(InputError, match=r"ids.txt, masks.npy and ends.npy do not fit"):
            data_of(folder)
    content = (folder / "masks.npy").read_bytes()
    (folder / "masks.npy").write_bytes(content.replace(b"{'descr'", b"({'desc'"))
    with pytest.raises(InputError, match=r"its masks cannot be read.*make the pseudo targets again"):
        data_of(folder)
    (folder / "ends.npy").unlink()
    with pytest.raises(InputError, match=r"ends.npy: .*make the pseudo targets again"):
        data_of(folder)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_box_beyond_its_image_stops_the_training(tmp_path: Path, workers: int) -> None:
    file = written(tmp_path / "pseudo") / "boxes.csv"
    file.write_text(file.read_text().replace("3.png,4,2,20,12", "3.png,4,2,25,12"))
    data = data_of(file.parent, batch_size=4, num_workers=workers, on_bad_image="skip")
    with pytest.raises(InputError, match=r"^3.png: .*4, 2, 25, 12 reaches beyond the image of 24 x 16"):
        list(data.train_dataloader())


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "masks", "masks")
    split = Bright().split("train")
    targets = read_pseudo_targets(folder, split, split.fingerprint())
    view = SmallCrop(32).draw(np.zeros((9, 9, 3), np.uint8), np.random.default_rng(0))[1]
    with pytest.raises(InputError, match="a mask of 24 x 16 for an image of 9 x 9"):
        targets.target(0, view)
