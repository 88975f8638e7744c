"""What every set of saved maps is to the rest of the package, however it is stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsol.data.source import Split
from wsol.functional.geometry import Geometry


class Maps(ABC):
    """Saved maps, read image by image in any order, from several threads if need be.

    Attributes:
        folder: where they lie.
        ids: of the images that have maps.
    """

    folder: Path
    ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def read(self, image_id: str, image_size: tuple[int, int] | None = None) -> tuple[np.ndarray, tuple[Geometry, ...]]:
        """The maps of an image, one for each of its V views.

        Args:
            image_id: one of `ids`.
            image_size: width and height of the image as stored.

        Returns:
            float (V, h, w), not scaled, float32 where nothing else was saved; and the geometry of each view.

        Raises:
            InputError: if there is none, it is damaged, or it is of an image of another size.
        """

    def check(self, split: Split) -> tuple[list[str], list[str]]:
        """Look for what would go wrong later, without reading the maps themselves.

        Args:
            split: that the maps should be of.

        Returns:
            Ids of the split's images without a map, and ids of the maps that belong to no image of it.

        Raises:
            InputError: if a map cannot be read or does not fit its image.
        """
        there, known = frozenset(self.ids), frozenset(split.ids)
        return [name for name in split.ids if name not in there], [name for name in self.ids if name not in known]

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What results should say of where these maps come from; plain values."""
