"""The base of the metrics: one short row per image, keyed by the image's position in its split.

Because rows are keyed, an image that comes twice (a padded batch, a padding sampler, a repeated pass) counts once. Rows
are sorted before anything is computed, so neither the size of batches nor the number of processes changes a digit. An
image without a position counts as a new image each time.
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
    """Stores rows per image. A subclass declares its rows with `add_rows`, adds some with `append` and reads `rows`.

    States are lists of tensors, ``index`` int64 (n,) and each declared row (n,) or (n, width), concatenated across
    processes. Nothing is stored outside the states, so `forward`, ``state_dict`` and synchronization lose nothing. A
    row without a position has a negative ``index`` (`wsol.functional.metric_inputs.UNKEYED`).

    Args:
        kwargs: arguments of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0
    index: list[Tensor] | Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._empty: dict[str, Tensor] = {}
        self.add_rows("index", None, torch.int64)

    def add_rows(self, name: str, width: int | None, dtype: torch.dtype) -> None:
        """Declare a row: ``width`` values of ``dtype`` per image, or one value if ``width`` is None."""
        self._empty[name] = torch.empty((0,) if width is None else (0, width), dtype=dtype)
        self.add_state(name, default=[], dist_reduce_fx="cat")

    def append(self, index: ArrayLike | Tensor, **rows: ArrayLike | Tensor) -> None:
        """Store the rows of some images.

        Args:
            index: integer (n,) positions in the split; negative for images without one.
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
        for name, value in tensors.items():
            setattr(self, name, _added(self._parts(name), value.clone()))

    def joined(self, name: str) -> Tensor:
        """Return all rows of one name so far, in order of arrival; processes one after the other."""
        parts = self._parts(name)
        return torch.cat(parts) if parts else self._empty[name].to(self.device)

    def rows(self) -> dict[str, np.ndarray]:
        """Return the rows of this process by name, including ``index``: each image once, in the order of the split.

        Images without a position follow in order of arrival, with positions after the last one.
        """
        index = self.joined("index").cpu().numpy()
        (keyed,), (others,) = np.nonzero(index >= 0), np.nonzero(index < 0)
        positions, first = np.unique(index[keyed], return_index=True)
        where = np.concatenate([keyed[first], others])
        after = int(positions[-1]) + 1 if len(positions) else 0
        kept = {name: self.joined(name).cpu().numpy()[where] for name in self._empty if name != "index"}
        return {"index": np.concatenate([positions, after + np.arange(len(others))]), **kept}

    def gathered_rows(self) -> dict[str, np.ndarray]:
        """Return the rows of all processes, which must all call this; see `rows`."""
        found: dict[str, np.ndarray] = self._gathered(self.rows)
        return found

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot a value, or several over steps; see `torchmetrics.Metric.plot`.

        Args:
            val: result of `compute` or `forward`, or a list of them; None for `compute()`.
            ax: matplotlib axes to draw on.

        Returns:
            Figure and axes.
        """
        return self._plot(val, ax)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Add a batch and return the value of this batch alone. A refused batch changes nothing."""
        before = {name: list(v) if isinstance(v := getattr(self, name), list) else v for name in self._defaults}
        updates = self._update_count
        try:
            return super().forward(*args, **kwargs)
        except Exception:
            for name, value in before.items():
                setattr(self, name, value)
            self._update_count, self._computed, self._cache = updates, None, None
            self._is_synced, self._should_unsync, self._to_sync = False, True, self.sync_on_compute
            self._enable_grad = False
            raise

    def _gathered(self, read: Callable[[], Any]) -> Any:
        """Return the result of ``read`` with the states of all processes."""
        if self._is_synced:
            return read()
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync):
            return read()

    def _parts(self, name: str) -> list[Tensor]:
        state = getattr(self, name)
        return [state] if isinstance(state, Tensor) else state  # torchmetrics leaves a tensor after gathering a list

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # torchmetrics would keep the caller's lists and empty them at the next reset.
        for name in self._empty:
            value = state_dict.get(prefix + name)
            if value is not None:
                parts = [value] if isinstance(value, Tensor) else value
                state_dict[prefix + name] = [part.to(self.device) for part in parts]
                self._update_count = max(self._update_count, len(parts))
                self._computed = None
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _sync_dist(
        self, dist_sync_fn: Callable[..., Any] = gather_all_tensors, process_group: Any | None = None
    ) -> None:
        # A process without images must take part in every gathering, with a tensor of the others' type and number of
        # dimensions; torchmetrics would send an empty float vector, and the processes would wait forever.
        for name, empty in self._empty.items():
            if not self._parts(name):
                setattr(self, name, [empty.to(self.device)])
        super()._sync_dist(dist_sync_fn, process_group=process_group)


def _added(parts: list[Tensor], new: Tensor) -> list[Tensor]:
    """Return the list with one more tensor, joined with neighbours no longer than itself: about log2(n) tensors.

    Thousands of small tensors between the large ones of each batch would fragment memory: 13 kB per image were measured
    for rows of 364 bytes.
    """
    kept = list(parts)
    while kept and len(kept[-1]) <= len(new):
        new = torch.cat([kept.pop(), new])
    return [*kept, new]
