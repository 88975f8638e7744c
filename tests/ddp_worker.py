"""What one process of `tests/test_ddp.py` does: run the command line, and judge given maps, as a rank of two worlds."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.distributed

from tests.marked import PROTOCOLS, Case, batch, plain
from wsol.cli import main
from wsol.data.samplers import NOTHING, EvalSampler
from wsol.data.transforms import ResizeSquare
from wsol.evaluation import SplitEvaluation, localization_table

COUNTS = (1, 2, 7, 101)
"""Images of a split whose maps are given."""
DATA = {"many": (5, 41), "few": (2, 1)}
"""Images of ``val`` and ``test`` judged through the command line."""


def eval_words(run: Path, out: Path, data_dir: Path, name: str, world: int) -> list[str]:
    """The command line that judges one of `DATA` with ``world`` processes."""
    val, test = DATA[name]
    images = [
        "data=creatures",
        "data.size=32",
        "data.train_images=48",
        f"data.val_images={val}",
        f"data.test_images={test}",
    ]
    devices = ["trainer=ddp", f"trainer.devices={world}"] if world > 1 else []
    # One image a batch: a convolution may round otherwise in batches of other sizes.
    once = [f"run={run}", f"out={out}", f"data_dir={data_dir}", "batch_size=1", "trainer.accelerator=cpu"]
    return ["eval", *once, *images, *devices]


def judge_maps(count: int, rank: int, world: int) -> dict:
    """Everything that is measured on ``count`` images, of which this process brings its share."""
    case = Case(count)
    evaluation = SplitEvaluation(case.split, ResizeSquare(24).views, PROTOCOLS, baselines=True)
    case.feed(evaluation, [i for i, _ in EvalSampler(count, 3, rank, world) if i != NOTHING], 3)
    measured = evaluation.compute()
    lost = [i for i in range(0, count - 1, 5) if i % world == rank]  # listed, though their maps are here
    evaluation.skip(batch(case.split, [], lost))
    return {
        **plain(measured),
        "scalars": evaluation.scalars(),
        "table": localization_table({"test": measured}, {"test": evaluation}, "test"),
        "skipped": evaluation.skipped_ids(),
    }


def work(rank: int, folder: Path, run: Path, data_dir: Path, ports: dict[int, int]) -> None:
    """Be rank ``rank`` of three processes, and then, unless the third, of two."""
    torch.set_num_threads(1)
    log = os.open(folder / f"rank{rank}.log", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(log, stream)
    for world in (world for world in (3, 2) if rank < world):
        # A process that finds these was started by something else than Lightning, as torchrun would do.
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": ports[world], "LOCAL_RANK": rank, "NODE_RANK": 0}
        os.environ.update({name: str(value) for name, value in place.items()}, OMP_NUM_THREADS="1")
        for name in DATA:
            if code := main(eval_words(run, folder / str(world) / name, data_dir, name, world)):
                raise SystemExit(code)
        assert torch.distributed.get_world_size() == world
        found = {count: judge_maps(count, rank, world) for count in COUNTS}
        torch.save(found, folder / f"{world}-{rank}.pt")
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
