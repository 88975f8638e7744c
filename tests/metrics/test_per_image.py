"""Metrics with real processes: the set of images counts, not who measured them, how often or in which batches."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from wsol.errors import InputError
from wsol.metrics import BoxAccuracy, ClassificationError, PerImage, PxAP

THRESHOLDS = np.arange(0, 1, 0.05)
SIZES = (1, 2, 7, 101)
WORLDS = (1, 2, 3)


@dataclasses.dataclass
class Data:
    """What a network would have made of ``size`` images; the same in every process."""

    size: int

    def __post_init__(self):
        rng = np.random.default_rng(self.size)
        self.logits = torch.from_numpy(rng.standard_normal((self.size, 6)).astype(np.float32))
        self.labels = torch.from_numpy(rng.integers(0, 6, self.size))
        self.hits = rng.random((self.size, 1, len(THRESHOLDS))) < rng.random(self.size)[:, None, None]
        self.ranks = rng.integers(0, 6, self.size)
        self.maps = rng.random((self.size, 4, 4))
        self.masks = rng.choice([0, 1, 255], (self.size, 4, 4)).astype(np.uint8)
        self.masks[:, 0, 0] = 1


def measure(data, positions, batch, **kwargs):
    """Update every metric with the images at ``positions``, in batches, and compute."""
    boxes = BoxAccuracy(THRESHOLDS, topk=(1, 5), **kwargs)
    classes = ClassificationError(topk=(1, 5), **kwargs)
    pixels = PxAP(**kwargs)
    for start in range(0, len(positions), batch):
        some = np.array(positions[start : start + batch])
        index = torch.from_numpy(some)
        boxes.update(data.hits[some], index, data.ranks[some])
        classes.update(data.logits[some], data.labels[some], index)
        pixels.update(data.maps[some], data.masks[some], index)
    curves = boxes.compute()
    return {
        **classes.compute(),
        "pxap": pixels.compute(),
        "images": curves.images,
        "curves": {name: curves.accuracy(name).tolist() for name in curves.names()},
    }


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    world = max(WORLDS)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    pair = dist.new_group([0, 1])
    results = {}
    for size in SIZES:
        data = Data(size)
        share = list(range(rank, size, 3))
        results[3, size, "shares"] = measure(data, share, 4)
        results[3, size, "twice here"] = measure(data, share + share[::-1], 3)
        # Only the first process has images: the others must join without any.
        results[3, size, "one has all"] = measure(data, list(range(size)) if rank == 0 else [], 8)
        if rank < 2:
            results[2, size, "shares"] = measure(data, list(range(rank, size, 2)), 5, process_group=pair)
        results[3, size, "padded"] = padded(data, rank)
    empty = BoxAccuracy(THRESHOLDS)
    results["nobody has any"] = empty.compute().images
    overlap = PxAP()
    overlap.update(Data(1).maps, Data(1).masks, torch.tensor([0]))
    try:
        overlap.compute()
    except InputError as error:
        results["measured by all"] = str(error)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def padded(data, rank):
    """What a padding sampler does: every process gets the same number of images, some come twice."""
    each = -(-data.size // 3)
    positions = [(rank + 3 * k) % data.size for k in range(each)]
    metric = BoxAccuracy(THRESHOLDS, topk=())
    some = np.array(positions)
    metric.update(data.hits[some], some)
    return {"images": metric.compute().images, "gt_known": metric.compute().gt_known.tolist()}


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    folder = Path(tmp_path_factory.mktemp("gloo"))
    mp.spawn(_process, args=(str(folder),), nprocs=max(WORLDS))
    return [torch.load(folder / f"{rank}.pt") for rank in range(max(WORLDS))]


@pytest.mark.parametrize("size", SIZES)
def test_any_number_of_processes_gives_the_same_digits(processes, size):
    alone = measure(Data(size), list(range(size)), 16)
    assert alone["images"] == size
    for rank, results in enumerate(processes):
        for kind in ("shares", "twice here", "one has all"):
            assert results[3, size, kind] == alone, (rank, kind)
        if rank < 2:
            assert results[2, size, "shares"] == alone
        assert results[3, size, "padded"] == {"images": size, "gt_known": alone["curves"]["gt_known"]}


def test_no_process_waits_when_nobody_has_images(processes):
    assert [results["nobody has any"] for results in processes] == [0, 0, 0]


def test_pixels_measured_by_several_processes_are_refused_by_all(processes):
    assert all("1 of the images were measured by several" in results["measured by all"] for results in processes)


@pytest.mark.parametrize("batch", [1, 2, 7, 100])
def test_batches_and_order_change_nothing(batch):
    data = Data(40)
    shuffled = np.random.default_rng(batch).permutation(40).tolist()
    assert measure(data, shuffled, batch) == measure(data, list(range(40)), 40)


class Values(PerImage):
    """Keeps one number and one pair for each image."""

    def __init__(self):
        super().__init__()
        self.add_rows("number", None, torch.float32)
        self.add_rows("pair", 2, torch.int32)

    def update(self, index, number, pair):
        self.append(index, number=number, pair=pair)

    def compute(self):
        return self.rows()


def test_rows_come_back_in_the_order_of_the_split_once_each():
    metric = Values()
    metric.update([5, 1], [0.5, 0.1], [[5, 5], [1, 1]])
    metric.update([3, 5], [0.3, 0.5], [[3, 3], [5, 5]])
    rows = metric.compute()
    assert rows["index"].tolist() == [1, 3, 5]
    assert rows["number"].tolist() == np.float32([0.1, 0.3, 0.5]).tolist()
    assert rows["pair"].tolist() == [[1, 1], [3, 3], [5, 5]]
    metric.reset()
    metric.update([], np.zeros(0), np.zeros((0, 2)))
    assert metric.compute()["pair"].shape == (0, 2)


def test_kept_rows_are_copies():
    metric, pair = Values(), torch.tensor([[1, 2]], dtype=torch.int32)
    metric.update([0], [0.0], pair)
    pair.zero_()
    assert metric.compute()["pair"].tolist() == [[1, 2]]


def test_rows_of_other_shapes_are_refused():
    with pytest.raises(InputError, match=r"number of shape \(2,\), got \(1,\)"):
        Values().update([0, 1], [0.0], [[1, 1], [2, 2]])
    with pytest.raises(InputError, match=r"pair of shape \(1, 2\)"):
        Values().update([0], [0.0], [[1, 1, 1]])
    with pytest.raises(InputError, match="index of shape"):
        Values().update([[0]], [0.0], [[1, 1]])
