"""Processes of distributed tests: each runs command lines as a rank of a world, and what else a test gives it.

Importing torch is what takes time in a process, so they are forked from a server that has imported everything.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from torch import nn

from tests.conftest import flush_nothing
from tests.marked import PROTOCOLS, Case, batch, plain
from wsol.backbones.base import Backbone, Stage
from wsol.cli import main
from wsol.data.samplers import NOTHING, EvalSampler
from wsol.data.transforms import ResizeSquare
from wsol.engine.evaluation import SplitEvaluation
from wsol.engine.localization_table import localization_table
from wsol.engine.module import LocalizerModule
from wsol.metrics import error_split, localization_error, max_box_acc, pxap
from wsol.types import Preprocessing

LIMIT = 300
"""Seconds after which processes are taken to wait for one another for ever."""
COUNTS = (1, 2, 7, 31)
"""Images of a split whose maps are given."""
DATA = {"many": (5, 41), "few": (2, 1)}
"""Images of ``val`` and ``test`` evaluated through the command line."""


class Plain(Backbone):
    """A network without batch normalisation, which would make an image's score depend on its neighbours."""

    min_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 12, 5, stride=2, padding=2), nn.Conv2d(12, 16, 3, padding=1)
        self.act1, self.act2 = nn.ReLU(), nn.ReLU()
        steps = [Stage("one", ("conv1", "act1"), 12, 2), Stage("two", ("conv2", "act2"), 16, 2)]
        self.declare(steps, aliases=("one", "one", "two"))
        self.preprocessing = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, size=32)


def eval_words(run: Path, out: Path, data_dir: Path, name: str, world: int) -> list[str]:
    """The command line that evaluates one of `DATA` with ``world`` processes."""
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


def evaluate_maps(count: int, rank: int, world: int) -> dict:
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


def functional_twins() -> list:
    """Metrics of one set of maps, which are this process's own business."""
    score_maps, boxes = np.eye(8)[None], [np.array([[0, 0, 8, 8]])]
    return [
        error_split(["right", "part"])["part"],
        pxap([np.array([[0.9, 0.4, 0.2]])], [np.array([[1, 0, 255]], np.uint8)]),
        localization_error(score_maps, boxes, protocol="choe2020", topk=[]),
        max_box_acc(score_maps, boxes, v2=True),
    ]


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def together(world: int, folder: Path, work: Callable[..., None], *arguments: object) -> Callable[[], None]:
    """Start ``work(rank, *arguments)`` in ``world`` processes; returns what waits for them all to end well."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytorch_lightning", "torch", "wsol.cli.verbs.eval", "wsol.cli.verbs.train"])
    workers = [context.Process(target=_logged, args=(rank, folder, work, arguments)) for rank in range(world)]
    for worker in workers:
        worker.start()

    def wait() -> None:
        deadline = time.monotonic() + LIMIT
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        codes = [worker.exitcode for worker in workers]
        for worker in workers:
            worker.kill()
        said = "\n".join(file.read_text(errors="replace")[-3000:] for file in sorted(folder.glob("rank*.log")))
        assert codes == [0] * len(workers), f"exit codes {codes} (None: still waiting after {LIMIT} s)\n{said}"

    return wait


def _logged(rank: int, folder: Path, work: Callable[..., None], arguments: Sequence[object]) -> None:
    torch.set_num_threads(1)
    flush_nothing()
    log = os.open(folder / f"rank{rank}.log", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(log, stream)
    work(rank, *arguments)


def be(rank: int, port: int) -> None:
    """Look like a process that was started by something else than Lightning, as by torchrun."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": rank, "NODE_RANK": 0}
    os.environ.update({name: str(value) for name, value in place.items()}, OMP_NUM_THREADS="1")


def run_commands(rank: int, world: int, port: int, commands: Sequence[Sequence[str]]) -> None:
    """Be one of the processes that run command lines, one after the other."""
    be(rank, port)
    for words in commands:
        if code := main(list(words)):
            raise SystemExit(code)
        assert torch.distributed.get_world_size() == world
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def work(rank: int, folder: Path, run: Path, data_dir: Path, ports: dict[int, int]) -> None:
    """Be rank ``rank`` of three processes, and then, unless the third, of two."""
    for world in (world for world in (3, 2) if rank < world):
        be(rank, ports[world])
        for name in DATA:
            if code := main(eval_words(run, folder / str(world) / name, data_dir, name, world)):
                raise SystemExit(code)
        assert torch.distributed.get_world_size() == world
        found: dict = {count: evaluate_maps(count, rank, world) for count in COUNTS}
        if rank == 0:  # alone: were they to ask the others, all would wait for ever
            found["twins"] = functional_twins()
        torch.save(found, folder / f"{world}-{rank}.pt")
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def stop_and_go_on(rank: int, world: int, port: int, words: Sequence[str], steps: Sequence[int]) -> None:
    """Be one of the processes that train, are stopped in each of ``steps`` in turn, and go on to the end."""
    be(rank, port)
    plain_step = LocalizerModule.training_step
    for at in (*steps, None):
        count = [0]

        def step(self, batch, batch_idx, at=at, count=count):
            count[0] += 1
            if count[0] == at:
                raise KeyboardInterrupt
            return plain_step(self, batch, batch_idx)

        LocalizerModule.training_step = step
        assert main(list(words)) == (0 if at is None else 130)
    assert torch.distributed.get_world_size() == world
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
