"""What the benchmarks share: the machine in words, and ways to do a thing timed in fair alternation."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from wsol.config.build import cpu_has_bf16
from wsol.data.source import Split

Name = TypeVar("Name", bound=Hashable)
Item = TypeVar("Item")


WIDTH, HEIGHT = 500, 375


class Listed(Split):
    """A split of names, labels and boxes without pixels."""

    def _read_image(self, row: int) -> np.ndarray:
        raise NotImplementedError("this split has no pixels")

    def size(self, row: int) -> tuple[int, int]:
        """Width and height."""
        return WIDTH, HEIGHT


def machine(device: str) -> str:
    """One line about the machine; on it every figure depends."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    bf16 = "bfloat16 in hardware" if cpu_has_bf16() else "no bfloat16 in hardware"
    gpu = f", {torch.cuda.get_device_name()}" if device == "cuda" else ""
    return f"{model} ({bf16}), {cores} cores, {torch.get_num_threads()} torch threads{gpu}; torch {torch.__version__}"


def alternate(ways: Mapping[Name, Callable[[], object]], repeats: int, device: str) -> dict[Name, list[float]]:
    """Seconds that each way takes, in rounds: all ways once, every other round in reverse; the first is not counted.

    Other work on the machine then slows all ways alike, and what one leaves in caches serves each neighbour in turn.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name in list(ways)[:: -1 if turn % 2 else 1]:
            start = time.perf_counter()
            ways[name]()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(reference: list[float], seconds: list[float]) -> float:
    """How many times as fast as the reference: the median over the rounds, each compared within itself."""
    return statistics.median(a / b for a, b in zip(reference, seconds, strict=True))


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


class Clock:
    """Seconds by part of a piece of work, summed over all times a part comes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time the body."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start

    def loading(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Time how long the batches let wait for them, as part ``loading``."""
        waiting = iter(batches)
        while True:
            with self.part("loading"):
                batch = next(waiting, None)
            if batch is None:
                return
            yield batch
