"""The workers of a sweep as processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from multiprocessing import connection
from multiprocessing.context import SpawnProcess

from wsol.errors import InputError, Terminated, first_line
from wsol.process_memory import keep_large_blocks
from wsol.sweeps.study import CRASHES
from wsol.sweeps.worker import CurrentAttempt, Sweep, terminable, work

GRACE = 10.0
"""Seconds that workers have to shut down when this process ends."""


def run_workers(sweep: Sweep, workers: int) -> bool:
    """Run workers until they end, and replace those that a trial killed; returns whether all succeeded."""
    replacements = CRASHES * sweep.settings["trials"]
    all_well = True
    running: dict[int, SpawnProcess] = {}
    try:
        with terminable():
            running.update({number: _start(sweep, number, workers) for number in range(workers)})
            while running:
                connection.wait([worker.sentinel for worker in running.values()])
                for number, worker in [*running.items()]:
                    if worker.exitcode is None:
                        continue
                    del running[number]
                    if worker.exitcode < 0 and replacements:
                        replacements -= 1
                        print(
                            f"worker {number} was killed by signal {-worker.exitcode}: starting another one",
                            file=sys.stderr,
                            flush=True,
                        )
                        running[number] = _start(sweep, number, workers)
                    else:
                        all_well = all_well and worker.exitcode == 0
    except BaseException:
        _end(list(running.values()))
        raise
    return all_well


def _start(sweep: Sweep, number: int, workers: int) -> SpawnProcess:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    worker = multiprocessing.get_context("spawn").Process(target=process, args=(sweep, max(1, cores // workers)))
    with contextlib.nullcontext() if sweep.train else _one_gpu(number):
        worker.start()
    return worker


def _end(workers: list[SpawnProcess]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(GRACE)
        if worker.exitcode is None:
            worker.kill()


def process(sweep: Sweep, threads: int) -> None:
    """Run a worker in its own process, which ends with the process that started it."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        """End this process, and its attempt, when the parent ends."""
        parent.join()
        if (attempt := CurrentAttempt.attempt) is not None:
            attempt.end("left")
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    if sweep.train is None:
        import torch

        torch.set_num_threads(threads)
        keep_large_blocks()
    try:
        work(sweep)
    except Terminated:
        raise SystemExit(143) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except (InputError, OSError) as error:  # the first process reports how to continue
        print(f"a worker stopped: {first_line(error)}", file=sys.stderr, flush=True)
        raise SystemExit(2) from error


@contextlib.contextmanager
def _one_gpu(worker: int) -> Iterator[None]:
    """Let a process that is started inside the block see a single GPU: workers are distributed over the GPUs."""
    import torch

    name, before = "CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    if count > 1:
        os.environ[name] = (before.split(",") if before else [str(i) for i in range(count)])[worker % count]
    try:
        yield
    finally:
        if count > 1:
            os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
