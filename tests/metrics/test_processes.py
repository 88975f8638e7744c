"""Metrics with real processes: the set of images counts, not who measured them, how often or in which batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from tests.engine.ddp_worker import together
from tests.metrics.cases import CASES, COUNT, MASKS, SCORES, update, values, whole
from wsol.errors import InputError
from wsol.metrics import MaxBoxAcc, PxAP
from wsol.metrics._box_accuracy import BoxAccuracy

WORLD = 3
LAST = COUNT - 1


def shares(rank: int) -> dict[str, tuple[list[int], bool]]:
    """What a process of three measures, in one kind of sharing after the other, and whether with an index."""
    own = list(range(rank, LAST, WORLD))  # uneven: 4, 4 and 3 images
    return {
        "uneven": (own, True),
        "uneven, without index": (own, False),
        "twice here": (own + own[::-1], True),
        "one without images": (([*range(5)], [*range(5, LAST)], [])[rank], True),
        "one has all, without index": (([*range(LAST)], [], [])[rank], False),
    }


def measure(name: str, some: list[int], keyed: bool, batch: int = 3, **kwargs: Any) -> dict[str, float]:
    """Give a metric the images of this process, every other batch by ``forward``, and compute."""
    case = CASES[name]
    metric = case.make(**kwargs)
    for start in range(0, len(some), batch):
        call = "forward" if start % 2 and len(set(some)) == len(some) else "update"
        update(metric, case, some[start : start + batch], keyed, call)
    found = values(metric.compute())
    assert values(metric.compute()) == found
    return found


def padded(rank: int) -> dict[str, Any]:
    """What a padding sampler does: every process gets the same number of images, some come twice."""
    metric = MaxBoxAcc()
    for k in range(-(-LAST // WORLD)):
        update(metric, CASES["MaxBoxAcc"], [(rank + WORLD * k) % LAST], keyed=True)
    return {"value": metric.compute().item(), "images": metric.curves().images}


def overlapping() -> str:
    """Pixels of the same image, measured by all processes."""
    metric = PxAP()
    metric.update(SCORES[:1], MASKS[:1], [0])
    with pytest.raises(InputError) as error:
        metric.compute()
    return str(error.value)


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    pair = dist.new_group([0, 1])
    results: dict[Any, Any] = {}
    for name in CASES:
        for kind, (some, keyed) in shares(rank).items():
            results[name, kind] = measure(name, some, keyed)
        if rank < 2:
            for keyed in (True, False):
                results[name, "pair", keyed] = measure(name, [*range(rank, LAST, 2)], keyed, process_group=pair)
    results["padded"] = padded(rank)
    results["nobody has any"] = BoxAccuracy(np.arange(4) / 4).compute().images
    results["measured by all"] = overlapping()
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> list[dict]:
    folder = Path(tmp_path_factory.mktemp("gloo"))
    together(WORLD, folder, _process, str(folder))()
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("name", CASES)
def test_any_number_of_processes_gives_the_same_digits(processes: list[dict], name: str) -> None:
    alone = whole(CASES[name], range(LAST))
    assert measure(name, [*range(LAST)], keyed=False) == alone
    for rank, results in enumerate(processes):
        for kind in shares(rank):
            assert results[name, kind] == alone, (rank, kind)
        if rank < 2:
            assert results[name, "pair", True] == results[name, "pair", False] == alone


def test_padding_changes_nothing_where_images_have_an_index(processes: list[dict]) -> None:
    alone = whole(CASES["MaxBoxAcc"], range(LAST))
    assert all(results["padded"] == {**alone, "images": LAST} for results in processes)


def test_no_process_waits_when_nobody_has_images(processes: list[dict]) -> None:
    assert [results["nobody has any"] for results in processes] == [0, 0, 0]


def test_pixels_measured_by_several_processes_are_refused_by_all(processes: list[dict]) -> None:
    assert all("1 of the images were counted by several" in results["measured by all"] for results in processes)
