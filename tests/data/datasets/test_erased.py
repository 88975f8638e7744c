"""Regions are written all or none, painted where they lie, and follow what training does to the image."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsol.data.datasets.erased import ErasedSplit, paint, write_regions
from wsol.data.source import Boxes, Split, hold_out
from wsol.data.transforms import RandomCrop
from wsol.errors import InputError

FILL = (0.2, 0.4, 0.6)
PIXEL = [51, 102, 153]


class Noise(Split):
    """Six images of several sizes, never of the fill's colour, with boxes and masks."""

    def __init__(self, count: int = 6) -> None:
        boxes = Boxes.pack([[[1, 1, 5, 6]]] * count, inclusive=False)
        ids, listed = [f"a/{i}.jpg" for i in range(count)], [i == 3 for i in range(count)]
        super().__init__("train", ids, [i % 2 for i in range(count)], boxes, has_masks=True, blacklist=listed)

    def _read_image(self, row: int) -> np.ndarray:
        rng = np.random.default_rng(row)
        return rng.integers(160, 256, (20 + row, 40 - 3 * row, 3), dtype=np.uint8)

    def _read_mask(self, row: int) -> np.ndarray:
        return np.full((20 + row, 40 - 3 * row), row % 2, np.uint8)


def regions(count: int = 6, side: int = 10, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.random((side, side)) < 0.3 for _ in range(count)]


@pytest.fixture
def folder(tmp_path):
    write_regions(tmp_path / "round0" / "regions", Noise(), iter(regions()), side=10)
    return tmp_path / "round0" / "regions"


def test_regions_come_back_and_all_else_stays(folder) -> None:
    plain, erased = Noise(), ErasedSplit(Noise(), folder, FILL)
    assert erased.fingerprint() == plain.fingerprint()
    assert (erased.name, list(erased.ids), erased.has_masks) == (plain.name, list(plain.ids), True)
    assert np.array_equal(erased.blacklist, plain.blacklist)
    for i, region in enumerate(regions()):
        assert np.array_equal(erased.region(i), region)
        assert erased.size(i) == (40 - 3 * i, 20 + i)
        assert np.array_equal(erased.mask(i), plain.mask(i))
        assert np.array_equal(erased.truth(i).boxes, plain.truth(i).boxes)
        image, before = erased.image(i), plain.image(i)
        over = (image == PIXEL).all(-1)
        assert over.any()
        assert np.array_equal(image[~over], before[~over])
        assert over.mean() == pytest.approx(region.mean(), abs=0.15)


@given(height=st.integers(1, 12), width=st.integers(1, 12), scale=st.sampled_from([1, 3, 5]), seed=st.integers(0, 50))
def test_a_region_at_a_whole_scale_covers_its_cells(height: int, width: int, scale: int, seed: int) -> None:
    region = np.random.default_rng(seed).random((height, width)) < 0.4
    image = np.full((height * scale, width * scale, 3), 200, np.uint8)
    painted = paint(image, region, np.array(PIXEL, np.uint8))
    centres = painted[scale // 2 :: scale, scale // 2 :: scale]
    assert np.array_equal((centres == PIXEL).all(-1), region)
    assert (image == 200).all()


def test_an_edge_lies_between_its_cells() -> None:
    region = np.zeros((4, 4), bool)
    region[:, 2:] = True
    over = (paint(np.zeros((8, 80, 3), np.uint8), region, np.array(PIXEL, np.uint8)) == PIXEL).all(-1)
    assert not over[:, :40].any()
    assert over[:, 40:].all()


def test_rounds_add_up(folder, tmp_path) -> None:
    once = ErasedSplit(Noise(), folder, FILL)
    write_regions(tmp_path / "second", once, regions(side=64, seed=1))
    twice = ErasedSplit(once, tmp_path / "second", FILL)
    for i in range(6):
        over = [(split.image(i) == PIXEL).all(-1) for split in (once, ErasedSplit(Noise(), tmp_path / "second", FILL))]
        assert np.array_equal((twice.image(i) == PIXEL).all(-1), over[0] | over[1])


def test_a_part_of_the_split_keeps_its_regions(folder) -> None:
    erased = ErasedSplit(Noise(), folder, FILL)
    part = erased.subset([4, 1])
    assert np.array_equal(part.image(0), erased.image(4))
    assert np.array_equal(part.region(1), regions()[1])
    rest, held = hold_out(erased, per_class=1)
    assert {*rest.ids} | {*held.ids} == {*erased.ids}
    for split in (rest, held):
        for i, name in enumerate(split.ids):
            assert np.array_equal(split.image(i), erased.image(list(erased.ids).index(name)))


def test_regions_of_a_part_are_refused_for_the_whole_and_fit_the_part(tmp_path) -> None:
    part = Noise().subset([5, 0])
    write_regions(tmp_path / "part", part, regions(2), side=10)
    with pytest.raises(InputError, match=r"another split than 'train' with 6 images"):
        ErasedSplit(Noise(), tmp_path / "part", FILL)
    erased = ErasedSplit(Noise().subset([5, 0]), tmp_path / "part", FILL)
    assert np.array_equal(erased.image(1), paint(Noise().image(0), regions(2)[1], np.array(PIXEL, np.uint8)))


def test_regions_move_with_crops_and_flips(folder) -> None:
    plain, erased = Noise(), ErasedSplit(Noise(), folder, FILL)
    transform = RandomCrop(size=12, resize=20)
    flips = set()
    for seed in range(12):
        marked = np.zeros_like(plain.image(3))
        marked[(erased.image(3) == PIXEL).all(-1)] = 255
        wanted = transform(marked, np.random.default_rng(seed))[0]
        got = transform(erased.image(3), np.random.default_rng(seed)).astype(int)
        near = np.abs(got - np.array(PIXEL)[:, None, None]).max(0)
        assert (near[wanted == 255] <= 1).all()
        assert (near[wanted == 0] > 5).all()
        flips.add(wanted.tobytes())
    assert len(flips) > 4


def test_workers_can_have_it(folder) -> None:
    erased = ErasedSplit(Noise(), folder, FILL)
    other = pickle.loads(pickle.dumps(erased))
    assert np.array_equal(other.image(2), erased.image(2))


@pytest.mark.parametrize(
    ("given_regions", "message"),
    [
        (regions(5), "expected 6 regions, one for each image, got 5"),
        (regions(7), r"expected 6 regions of 10 x 10, got \(10, 10\) as number 7"),
        ([*regions(2), np.zeros((9, 10), bool)], r"got \(9, 10\) as number 3"),
    ],
)
def test_all_regions_or_none_are_written(tmp_path, given_regions, message) -> None:
    with pytest.raises(InputError, match=message):
        write_regions(tmp_path / "regions", Noise(), given_regions, side=10)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_writer_leaves_nothing(tmp_path) -> None:
    def some():
        yield from regions(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_regions(tmp_path / "regions", Noise(), some(), side=10)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_written_over(folder) -> None:
    before = (folder / "masks.npy").read_bytes()
    with pytest.raises(InputError, match="choose a new folder"):
        write_regions(folder, Noise(), regions(seed=9), side=10)
    assert (folder / "masks.npy").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["regions"]


def change(folder, **values) -> None:
    file = folder / "about.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "about.json").unlink(), "no regions"),
        (lambda folder: (folder / "about.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "about.json").write_text("[]"), "damaged"),
        (lambda folder: (folder / "masks.npy").write_bytes(b""), "damaged"),
        (lambda folder: np.save(folder / "masks.npy", np.array([{}]), allow_pickle=True), "damaged"),
        (lambda folder: np.save(folder / "masks.npy", np.zeros((5, 13), np.uint8)), r"masks\.npy: expected 6 rows"),
        (lambda folder: np.save(folder / "masks.npy", np.zeros((6, 13))), r"masks\.npy: expected 6 rows"),
        (lambda folder: change(folder, side=12), r"expected 6 rows of 12 x 12"),
        (lambda folder: change(folder, version=2), "expected version 1, got 2"),
        (lambda folder: change(folder, fingerprint="0"), "of another split"),
    ],
)
def test_damaged_folders_are_refused(folder, damage, message: str) -> None:
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        ErasedSplit(Noise(), folder, FILL)
    assert str(folder) in str(caught.value)
