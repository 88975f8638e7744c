"""GAP features: the spatial mean of a network's last features, as a description of an image.

Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", section 4: with f_k(x, y) the k-th feature
at a cell and F_k its mean over all cells, F is the input of the classifier in a network with global average pooling. A
linear classifier w trained on F of other images has maps as well, by equation 2::

    score = sum_k w_k F_k + b,    map M(x, y) = sum_k w_k f_k(x, y),    mean of M = score - b
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wsol.data.module import LocalizationData
from wsol.data.source import Source, Split
from wsol.data.transforms import EvalTransform
from wsol.engine.module import LocalizerModule
from wsol.errors import InputError
from wsol.explain.layers import captured, only
from wsol.protocols import LocalizationProtocol
from wsol.types import Batch, Output, Progress, no_progress


class FeatureBatch(NamedTuple):
    """The network's output for a batch."""

    batch: Batch
    cells: Tensor
    """float32 (N, V, C, h, w) the features f of each of the V views."""
    logits: Tensor
    """float32 (N, K) class scores."""
    output: Output
    """Geometries of all N V views."""

    @property
    def features(self) -> Tensor:
        """float32 (N, C) the features F: means over views and cells."""
        return self.cells.mean((1, 3, 4))


class Extractor:
    """Reads features from a network.

    Args:
        module: the network with its normalisation; put into evaluation mode.
        transform: makes the network's input from a stored image.
        point: the features to read: a point of the backbone or the path of a module that returns maps. None for the
            input of the head's pooling (`wsol.heads.gap.GapHead`), or ``last`` for heads that do not specify it.
        batch_size: number of images at once.
        num_workers: number of loading processes, or ``auto``.
        progress: called with the number of finished batches of a split.

    Raises:
        InputError: on reading features, a point that does not exist or returns no map; or a bad image.
    """

    def __init__(
        self,
        module: LocalizerModule,
        transform: EvalTransform,
        point: str | None = None,
        batch_size: int = 32,
        num_workers: int | str = 0,
        progress: Progress = no_progress,
    ) -> None:
        self.module, self.transform, self.point = module.eval(), transform, point
        self._batch_size, self._num_workers, self._progress = batch_size, num_workers, progress

    def extract(self, split: Split, what: str = "features") -> Iterator[FeatureBatch]:
        """Run the network on all images of a split, in order; ``what`` is passed to the progress callback."""
        data = LocalizationData(
            _SingleSplit(split), None, self.transform, batch_size=self._batch_size, num_workers=self._num_workers
        )
        loader = data.eval_dataloader(split.name)
        for number, batch in enumerate(loader, start=1):
            yield self._seen(batch)
            self._progress(f"{what}, {split.name}", number, len(loader))

    def features(self, split: Split, what: str = "features") -> np.ndarray:
        """Return the features F of all images of a split, float32 (N, C)."""
        return np.concatenate([seen.features.cpu().numpy() for seen in self.extract(split, what)])

    @torch.no_grad()
    def features_and_boxes(
        self,
        split: Split,
        maps: Callable[[FeatureBatch], Tensor],
        protocol: LocalizationProtocol,
        threshold: float | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return features as `features` does, and the box of each image's map, from one pass.

        Args:
            split: the images.
            maps: makes the maps (N, V, h, w) of a batch.
            protocol: how a map becomes boxes.
            threshold: see `LocalizationProtocol.predict`.

        Returns:
            float32 (N, C), and float64 (N, 4) half-open, image frame: the largest box if a map has several.
        """
        features, boxes = [], []
        for seen in self.extract(split, "features and boxes"):
            features.append(seen.features.cpu().numpy())
            sizes = [(int(width), int(height)) for width, height in seen.batch.sizes.tolist()]
            for of_image, size in zip(maps(seen).float().cpu().numpy(), sizes, strict=True):
                found = protocol.predict(*protocol.merge(of_image, self.transform.views(size)), threshold)
                boxes.append(found[((found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])).argmax()])
        return np.concatenate(features), np.stack(boxes)

    @torch.no_grad()
    def _seen(self, batch: Batch) -> FeatureBatch:
        localizer = self.module.localizer
        images = batch.images.to(self.module.device)
        point = self.point
        with ExitStack() as stack:
            read = stack.enter_context(captured(localizer, point, leaf=True)) if point else []
            _, output, logits = self.module.scores(images)
        if point is None and "features" not in output.state:
            self.point = "last"
            return self._seen(batch)
        cells = only(read, point) if point else output.state["features"]
        if cells.ndim != 4:
            raise InputError(f"point={point}: expected a map (N, C, h, w), got shape {tuple(cells.shape)}")
        return FeatureBatch(batch, cells.detach().float().unflatten(0, (len(logits), -1)), logits, output)

    def own_maps(self, seen: FeatureBatch) -> Tensor:
        """Return the localizer's own maps of its predicted class, float32 (N, V, h, w)."""
        views = seen.cells.shape[1]
        asked = seen.logits.argmax(1)[:, None].repeat_interleave(views, 0)
        return self.module.localizer.maps(seen.output, asked)[:, 0].unflatten(0, (-1, views))


def linear_maps(cells: Tensor, weights: Tensor) -> Tensor:
    """Return the maps of linear classifiers on the features: sum_k w_k f_k(x, y), without the bias.

    Args:
        cells: float (N, V, C, h, w).
        weights: float (N, C), one classifier per image.

    Returns:
        float (N, V, h, w), whose mean is w . F.

    Example:
        >>> cells, weights = torch.randn(2, 1, 8, 5, 5), torch.randn(2, 8)
        >>> means = linear_maps(cells, weights).mean((1, 2, 3))
        >>> torch.allclose(means, (cells.mean((1, 3, 4)) * weights).sum(1), atol=1e-5)
        True
    """
    return torch.einsum("nvchw,nc->nvhw", cells, weights)


class _SingleSplit(Source):
    """A dataset with a single split."""

    def __init__(self, split: Split) -> None:
        self.classes, self.splits, self._one = (), (split.name,), split

    def _split(self, name: str) -> Split:
        return self._one
