"""Recognition guided by localization: an image is classified again using the region that its map shows.

Zhou et al. 2016, section 4.1 (fine-grained recognition): CAM's box, at 20 % of the map's maximum, is cropped and
classified again. Alternatively the whole image is weighted by the map: its pixels fade to the mean colour where the map
is low.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn

from wsol.data.source import Split
from wsol.data.transforms import EvalTransform
from wsol.errors import unknown
from wsol.functional.geometry import Geometry
from wsol.functional.maps import place
from wsol.metrics import TopKError
from wsol.protocols import protocol
from wsol.types import Batch, Preprocessing

WAYS = ("crop", "weighted")


class Recognition(nn.Module):
    """A second classification of the images of one split.

    Args:
        how: ``crop`` or ``weighted``.
        split: split of the images, which are cropped and weighted at their full size.
        transform: makes the network's input from an image.
        preprocessing: contains the mean colour.
        topk: which top-k errors to compute.

    Raises:
        InputError: an unknown value of ``how``.
    """

    def __init__(
        self,
        how: str,
        split: Split,
        transform: EvalTransform,
        preprocessing: Preprocessing,
        topk: tuple[int, ...] = (1, 5),
    ) -> None:
        super().__init__()
        if how not in WAYS:
            raise unknown("recognize", how, WAYS)
        self.how, self.split, self.transform = how, split, transform
        self.fill = np.array(preprocessing.mean) * 255
        self.errors = TopKError(topk)
        self._protocol = protocol("cam2016")
        self._pool = ThreadPoolExecutor(os.cpu_count())

    @staticmethod
    def classes(batch: Batch) -> Callable[[Tensor], Tensor]:
        """Return a function that chooses the classes of the maps, int64 (N, 2): ground truth and prediction."""
        return lambda logits: torch.stack([batch.labels, logits.argmax(1)], 1)

    def second_input(self, batch: Batch, maps: np.ndarray) -> Tensor:
        """Make the network's second input.

        Args:
            batch: batch of N images.
            maps: float32 (N, V, h, w) of each image's predicted class.

        Returns:
            uint8 (N, 3, H, W), or (N, V, 3, H, W) with several views.
        """
        again = self._pool.map(self._again, batch.positions.tolist(), maps)
        return torch.from_numpy(np.stack(list(again)))

    def _again(self, position: int, maps: np.ndarray) -> np.ndarray:
        image = self.split.image(position)
        size = (image.shape[1], image.shape[0])
        score_map, view = self._protocol.merge(maps, self.transform.views(size))
        if self.how == "crop":
            return self.transform(crop(image, self._protocol.predict(score_map, view)[0]))
        return self.transform(weigh(image, place(score_map, view, Geometry.whole(size)), self.fill))

    def compute(self, before: dict[str, float]) -> dict[str, object]:
        """Return the errors of the second classification and its gain over the first one, ``before``; percent."""
        errors = {name: float(error) for name, error in self.errors.compute().items()}
        return {"how": self.how, **errors, "gain": {name: before[name] - error for name, error in errors.items()}}


def crop(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Crop a box with every pixel that it touches.

    Args:
        image: uint8 (H, W, 3).
        box: real (4,) half-open; a box without area means the whole image.

    Example:
        >>> crop(np.zeros((6, 8, 3), np.uint8), np.array([1.5, 2.0, 4.2, 6.0])).shape
        (4, 4, 3)
    """
    x0, y0 = (int(value) for value in np.floor(box[:2]))
    x1, y1 = (int(value) for value in np.ceil(box[2:]))
    return image[y0:y1, x0:x1] if x1 > x0 and y1 > y0 else image


def weigh(image: np.ndarray, weights: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """Fade an image to a colour where its weights are low.

    Args:
        image: uint8 (H, W, 3).
        weights: real (H, W) in [0, 1].
        fill: real (3,) colour, 0 to 255.

    Example:
        >>> weigh(np.full((1, 3, 3), 200, np.uint8), np.array([[0.0, 0.5, 1.0]]), np.full(3, 100.0))[0, :, 0].tolist()
        [100, 150, 200]
    """
    shares = weights[..., None]
    return np.rint(image * shares + fill * (1 - shares)).clip(0, 255).astype(np.uint8)
