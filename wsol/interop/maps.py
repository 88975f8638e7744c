"""The interface of all sets of saved maps, independent of how they are stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsol.data.source import Split
from wsol.functional.geometry import Geometry


class Maps(ABC):
    """Saved maps, read image by image in any order, also from several threads.

    Attributes:
        folder: their folder.
        ids: ids of the images with maps.
    """

    folder: Path
    ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def read(self, image_id: str, image_size: tuple[int, int] | None = None) -> tuple[np.ndarray, tuple[Geometry, ...]]:
        """Return the maps of an image, one for each of its V views.

        Args:
            image_id: one of `ids`.
            image_size: width and height of the image as stored.

        Returns:
            float (V, h, w), not scaled, float32 unless saved as another type; and the geometry of each view.

        Raises:
            InputError: there is no map, it is damaged, or it belongs to an image of another size.
        """

    def check(self, split: Split) -> tuple[list[str], list[str]]:
        """Check for errors without reading the maps themselves.

        Args:
            split: the split of the maps.

        Returns:
            Ids of the split's images without a map, and ids of the maps whose images are not in the split.

        Raises:
            InputError: a map cannot be read or does not match its image.
        """
        there, known = frozenset(self.ids), frozenset(split.ids)
        return [name for name in split.ids if name not in there], [name for name in self.ids if name not in known]

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """Return where these maps come from, for results; plain values."""
