"""The pseudo targets of a split, made from its maps while these are computed, and written as shards of each process."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsol.box_evaluation import threads
from wsol.data.pseudo_targets import Kind, pack_mask
from wsol.functional.boxes import largest_box
from wsol.functional.geometry import Geometry
from wsol.interop.shards import ShardWriter
from wsol.protocols import LocalizationProtocol

PENDING = 256
"""Largest number of images whose maps wait for their boxes."""
SHARDS = "targets"
"""Name of the folder of shards, and of each shard in it."""
BOX = np.dtype("<f8")
"""Type of the four numbers of a box in a shard."""


class Target(NamedTuple):
    """The pseudo target of an image."""

    record: bytes
    """A box of type `BOX`, half-open, image frame; or a mask as `pack_mask` made it."""
    is_whole: bool
    """Whether it is the whole image, because nothing was above the threshold."""


class TargetWriter(AbstractContextManager["TargetWriter"]):
    """Receives the maps of images, makes their boxes or masks in threads, and writes them as this process's shard.

    Args:
        folder: folder of the shards, see `wsol.interop.shards`.
        protocol: protocol that makes the boxes.
        threshold: its threshold; None for ranked boxes.
        kind: ``boxes`` or ``masks``.
        shard: name of this process's part.

    Example:
        >>> import tempfile
        >>> from wsol.interop.shards import records_in_order
        >>> from wsol.protocols import protocol
        >>> folder = Path(tempfile.mkdtemp())
        >>> with TargetWriter(folder, protocol("cam2016"), 0.2, "boxes") as found:
        ...     found.add("b", np.array([[[0.0, 1.0]]]), [Geometry.whole((2, 1))], np.zeros(3))
        >>> [(name, np.frombuffer(box, BOX).tolist()) for name, box in records_in_order(folder, SHARDS, ["a", "b"])]
        [('b', [1.0, 0.0, 2.0, 1.0])]
    """

    def __init__(
        self, folder: Path, protocol: LocalizationProtocol, threshold: float | None, kind: Kind, shard: str = "0"
    ) -> None:
        self.whole_images = 0
        """Number of images so far in which nothing was above the threshold."""
        self._protocol, self._threshold = protocol, threshold
        self._make = _box if kind == "boxes" else _mask
        self._shard = ShardWriter(folder, SHARDS, header={"kind": kind}, shard=shard)
        self._pool = ThreadPoolExecutor(threads())
        self._pending: deque[tuple[str, Future[Target]]] = deque()

    def add(self, image_id: str, maps: np.ndarray, geometries: Sequence[Geometry], logits: np.ndarray) -> None:
        """See `wsol.engine.split_types.MapWriter`."""
        self._pending.append(
            (image_id, self._pool.submit(self._make, self._protocol, self._threshold, maps, geometries))
        )
        self._collect(PENDING)

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)
        if kind is not None:
            self._shard.__exit__(kind, *exception)
            return
        with self._shard:
            self._collect(0)

    def _collect(self, left: int) -> None:
        while len(self._pending) > left:
            image_id, future = self._pending.popleft()
            target = future.result()
            self._shard.append(image_id, target.record)
            self.whole_images += target.is_whole


def _box(
    protocol: LocalizationProtocol, threshold: float | None, maps: np.ndarray, views: Sequence[Geometry]
) -> Target:
    """Return the largest box of an image."""
    merged, view = protocol.merge(maps, views)
    found = largest_box(protocol.predict(merged, view, threshold))
    box = [0, 0, *view.image_size] if found is None else found
    return Target(np.array(box, BOX).tobytes(), is_whole=found is None)


def _mask(
    protocol: LocalizationProtocol, threshold: float | None, maps: np.ndarray, views: Sequence[Geometry]
) -> Target:
    """Return the pixels of an image that are above the threshold."""
    mask = protocol.foreground(*protocol.merge(maps, views), threshold)
    return Target(pack_mask(mask if mask.any() else ~mask), is_whole=not mask.any())
