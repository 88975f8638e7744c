"""The built-in dataset: deterministic, exact, cached safely."""

import json
import multiprocessing
import time

import numpy as np
import pytest

from tests.conftest import left_behind
from wsol.data.datasets import creatures
from wsol.data.datasets.creature_art import Looks, draw, species
from wsol.data.datasets.creatures import Creatures, tight_box
from wsol.errors import InputError

FEW = {"train_images": 120, "val_images": 10, "test_images": 20, "size": 32}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("creatures")


@pytest.fixture(scope="module")
def source(root):
    return Creatures(root, **FEW)


def pixels(split):
    return np.stack([split.image(i) for i in range(len(split))])


def test_splits_have_their_sizes_and_differ(source):
    assert [len(source.split(name)) for name in ("train", "val", "test")] == [120, 10, 20]
    assert len({source.split(name).fingerprint() for name in source.splits}) == 3
    assert not np.array_equal(pixels(source.split("train"))[:10], pixels(source.split("val")))
    assert len(source.classes) == 8
    assert set(source.split("train").labels) == set(range(8))


def test_masks_and_boxes_are_exact(source):
    split = source.split("test")
    for i in range(len(split)):
        mask, truth = split.mask(i), split.truth(i)
        assert mask.shape == (32, 32)
        assert set(np.unique(mask)) == {0, 1}
        assert not truth.inclusive
        np.testing.assert_array_equal(truth.boxes, [tight_box(mask > 0)])
        assert (split.head(i) <= mask).all()


def test_the_same_anywhere(source, tmp_path):
    other = Creatures(tmp_path, **FEW)
    for name in source.splits:
        np.testing.assert_array_equal(pixels(source.split(name)), pixels(other.split(name)))
        assert source.split(name).fingerprint() == other.split(name).fingerprint()


def test_blocks_do_not_depend_on_what_follows(source, tmp_path):
    fewer = Creatures(tmp_path, **FEW | {"train_images": 105}).split("train")
    np.testing.assert_array_equal(pixels(fewer), pixels(source.split("train"))[:105])


def test_a_changed_knob_has_another_folder(source, root):
    changed = Creatures(root, **FEW, hue_jitter=0.1)
    assert changed.folder != source.folder
    assert Creatures(root, **FEW, scale=[0.6, 1]).folder == source.folder
    assert changed.split("val").fingerprint() != "" != source.split("val").fingerprint()
    assert json.loads((changed.folder / "val" / "about.json").read_text())["knobs"]["hue_jitter"] == 0.1


def test_the_second_time_nothing_is_drawn(source, monkeypatch):
    drawn = source.split("val").fingerprint()
    monkeypatch.setattr(creatures, "draw", None)  # drawing again would fail
    assert source.split("val").fingerprint() == drawn


def test_subset_keeps_images_and_masks(source):
    split = source.split("test")
    part = split.subset([7, 3], "val")
    assert (part.name, part.ids[0], len(part)) == ("val", split.ids[7], 2)
    np.testing.assert_array_equal(part.image(1), split.image(3))
    np.testing.assert_array_equal(part.mask(0), split.mask(7))
    np.testing.assert_array_equal(part.truth(0).boxes, split.truth(7).boxes)


def test_verify_finds_changed_bytes(tmp_path):
    source = Creatures(tmp_path, train_images=3, val_images=3, test_images=3, size=16)
    assert source.verify(deep=True).ok
    path = source.folder / "val" / "images.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)
    report = source.verify(deep=True)
    assert report.total == 2
    assert "checksum" in str(report)
    assert "val-000002" in str(report)


def test_damaged_cache_is_named(tmp_path):
    source = Creatures(tmp_path, train_images=3, val_images=3, test_images=3, size=16)
    source.split("val")
    (source.folder / "val" / "labels.npy").write_bytes(b"")
    with pytest.raises(InputError, match="delete this folder"):
        source.split("val")


def _draw_in_process(root, queue):
    queue.put(Creatures(root, train_images=40, val_images=1, test_images=1, size=16).split("train").fingerprint())


def test_two_processes_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_draw_in_process, args=(tmp_path, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert queue.get(timeout=60) == queue.get(timeout=60)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    (folder,) = tmp_path.iterdir()
    assert [path.name for path in folder.iterdir()] == ["train"]


@pytest.mark.parametrize("drawn_by_another", [False, True])
def test_what_a_killed_process_left_is_removed(tmp_path, drawn_by_another):
    source = Creatures(tmp_path, train_images=3, val_images=3, test_images=3, size=16)
    if drawn_by_another:
        source.split("train")
    left_behind(source.folder / "train").mkdir(parents=True)
    source.split("train")
    assert [path.name for path in source.folder.iterdir()] == ["train"]


def test_nothing_is_drawn_beside_other_files(tmp_path):
    """`wsol train data.root=photos` without `data=folder`."""
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match=r"not drawn beside other files, such as train; set data=folder"):
        Creatures(tmp_path, 8, 8, 8).split("val")
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


def test_root_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another root"):
        Creatures(tmp_path / "file", **FEW).split("val")


@pytest.mark.parametrize("size", [16, 33, 96])
def test_images_of_any_size_are_drawn(size):
    drawing = draw(np.random.default_rng(0), 0, species(3), Looks(size=size, num_classes=3))
    assert drawing.image.shape == (size, size, 3)
    assert 0 < drawing.head.sum() < drawing.mask.sum() < size * size


def test_knobs_do_what_they_say():
    kinds = species(8)

    def share(**knobs):
        looks = Looks(**knobs)
        return np.mean([draw(np.random.default_rng(i), i % 8, kinds, looks).mask.mean() for i in range(30)])

    assert share(scale=(0.9, 1.0)) > 1.5 * share(scale=(0.5, 0.6))
    bare = Looks(distractors=0, backdrop=0.0, grain=0.0, light=(1.0, 1.0))
    assert draw(np.random.default_rng(0), 0, kinds, bare).image.std() > 0


@pytest.mark.parametrize(
    ("knobs", "text"),
    [
        ({"hue_jiter": 0.1}, "did you mean 'hue_jitter'"),
        ({"size": "big"}, "invalid literal"),
        ({"size": 8}, "size >= 16"),
        ({"scale": [1.0, 0.5]}, "scale"),
        ({"body_true": 1.5}, "probability"),
        ({"train_images": 0}, "at least 1"),
    ],
)
def test_impossible_parameters_are_refused(tmp_path, knobs, text):
    with pytest.raises(InputError, match=text):
        Creatures(tmp_path, **knobs)


def test_drawing_is_fast():
    """At least 200 images per second of processor time; without other load it should be 400."""
    kinds, looks, rng = species(8), Looks(), np.random.default_rng(0)
    best = np.inf
    for _ in range(5):
        start = time.process_time()
        for i in range(20):
            draw(rng, i % 8, kinds, looks)
        best = min(best, (time.process_time() - start) / 20)
    assert 1 / best > 200
