"""The base of metrics that keep one short row for each image, keyed by the image's position in its split.

Since rows are keyed, an image that comes twice (a padded batch, a sampler that fills up, a repeated pass) counts once,
and since they are put in order before anything is computed, neither the size of batches nor the number of processes
changes a digit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from wsol.errors import InputError


class PerImage(Metric):
    """Keeps rows by image. A subclass declares its rows by `add_rows`, hands them to `append` and reads `rows`.

    States are lists of tensors, ``index`` int64 (n,) and each declared row (n,) or (n, width), concatenated across
    processes.

    Args:
        kwargs: of `torchmetrics.Metric`.
    """

    full_state_update = False
    index: list[Tensor] | Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._empty: dict[str, Tensor] = {}
        self.add_rows("index", None, torch.int64)

    def add_rows(self, name: str, width: int | None, dtype: torch.dtype) -> None:
        """Declare a row: ``width`` values of ``dtype`` for each image, or one value if ``width`` is None."""
        self._empty[name] = torch.empty((0,) if width is None else (0, width), dtype=dtype)
        self.add_state(name, default=[], dist_reduce_fx="cat")

    def append(self, index: ArrayLike | Tensor, **rows: ArrayLike | Tensor) -> None:
        """Keep the rows of some images.

        Args:
            index: integer (n,) positions in the split.
            rows: every declared row by name, n of each.

        Raises:
            InputError: a row does not have n entries of its declared width.
        """
        given = {"index": index, **rows}
        tensors = {
            name: torch.as_tensor(value).detach().to(self.device, self._empty[name].dtype)
            for name, value in given.items()
        }
        for name, value in tensors.items():
            expected = (len(tensors["index"].reshape(-1)), *self._empty[name].shape[1:])
            if tuple(value.shape) != expected:
                raise InputError(
                    f"{type(self).__name__}: expected {name} of shape {expected}, got {tuple(value.shape)}"
                )
            _add(getattr(self, name), value.clone())

    def joined(self, name: str) -> Tensor:
        """All rows of one name kept so far, in order of arrival."""
        state = getattr(self, name)
        if isinstance(state, Tensor):  # how torchmetrics leaves a list after gathering it
            return state
        return torch.cat(state) if state else self._empty[name].to(self.device)

    def rows(self) -> dict[str, np.ndarray]:
        """The rows by name, ``index`` among them: each image once, in the order of the split."""
        index, first = np.unique(self.joined("index").cpu().numpy(), return_index=True)
        kept = {name: self.joined(name).cpu().numpy()[first] for name in self._empty if name != "index"}
        return {"index": index, **kept}

    def _sync_dist(self, dist_sync_fn: Callable = gather_all_tensors, process_group: Any | None = None) -> None:
        # A process without images must join every gathering, with a tensor of the others' type and number of
        # dimensions; torchmetrics would join with an empty float vector, and the processes would wait for ever.
        for name, empty in self._empty.items():
            if not getattr(self, name):
                setattr(self, name, [empty.to(self.device)])
        super()._sync_dist(dist_sync_fn, process_group=process_group)


def _add(parts: list[Tensor], new: Tensor) -> None:
    """Append to a list of tensors, joining it with neighbours no longer than itself: n rows make about log2(n) tensors.

    Thousands of small tensors between the large ones of each batch would leave holes in memory that nothing else fits:
    13 kB an image were measured for rows of 364 bytes.
    """
    while parts and len(parts[-1]) <= len(new):
        new = torch.cat([parts.pop(), new])
    parts.append(new)
