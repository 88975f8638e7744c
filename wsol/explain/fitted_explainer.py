"""Explainers that need statistics of a dataset: how these are fitted, saved and loaded."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from wsol.errors import InputError
from wsol.explain.base import Explainer, eval_mode
from wsol.files import atomic_file
from wsol.models.classifier import Classifier
from wsol.models.precision import evaluation_precision
from wsol.tensor_files import read_safetensors, to_safetensors

FILE = "explainer.safetensors"
"""Name of the file of statistics in the folder of an evaluation."""
ENTRY = "explainer"
"""Entry of the file's metadata that has the explainer's class and options."""


class FittedExplainer(Explainer):
    """Base of the explainers that need statistics of a dataset: call `fit` or `load` before the first map.

    Args:
        state: file that `save` wrote, or folder of an evaluation that has one; None: call `fit` or `load`.
        chunk_size: see `Explainer`.

    Raises:
        InputError: see `load`.
    """

    def __init__(self, state: str | Path | None = None, chunk_size: int | None = None) -> None:
        Explainer.__init__(self, chunk_size)  # not super(): the other base class has other arguments
        self.statistics: dict[str, Tensor] = {}
        """Tensors by name, on the CPU; empty before `fit`."""
        if state is not None:
            self.load(state)

    @property
    def needs_fit(self) -> bool:
        """Whether maps need `fit` first, given the options."""
        return True

    @property
    def is_fitted(self) -> bool:
        """Whether statistics were fitted or loaded."""
        return bool(self.statistics)

    def fit(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Compute the statistics of a dataset; earlier ones are replaced.

        Args:
            model: the network to explain.
            batches: images float (N, 3, H, W), normalised as the network expects, with their labels int64 (N,).

        Raises:
            InputError: there is no image.
        """
        model = model.network if isinstance(model, Classifier) else model
        with torch.inference_mode(False), torch.no_grad(), eval_mode(model):
            found = self.gather(model, _in_float32(batches))
        self.statistics = {name: value.detach().cpu().contiguous() for name, value in found.items()}

    @abstractmethod
    def gather(self, model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Return the statistics; the network is in evaluation mode. See `fit`."""

    @abstractmethod
    def options(self) -> dict[str, str]:
        """Return the options that the statistics depend on; a file with other options is refused."""

    def require(self, name: str) -> Tensor:
        """Return one of the statistics.

        Raises:
            InputError: neither `fit` nor `load` was called.
        """
        if not self.statistics:
            raise InputError(
                f"{type(self).__name__} has no statistics of a dataset: call fit(model, batches) first, or give "
                "explainer.state=<folder of an evaluation that fitted it>"
            )
        return self.statistics[name]

    def check_fitted(self) -> None:
        """Require that statistics were fitted or loaded if maps need them.

        Raises:
            InputError: there are none.
        """
        if self.needs_fit and not self.is_fitted:
            self.require("")

    def save(self, file: str | Path) -> None:
        """Write the statistics to a .safetensors file.

        Raises:
            InputError: there are none.
        """
        self.require(next(iter(self.statistics), ""))
        about = json.dumps({"class": type(self).__name__, "options": self.options()})
        with atomic_file(Path(file)) as temporary:
            temporary.write_bytes(to_safetensors(self.statistics, {ENTRY: about}))

    def load(self, source: str | Path) -> None:
        """Read statistics that `save` wrote.

        Args:
            source: the file, or the folder of an evaluation that has one.

        Raises:
            InputError: no such file, a damaged file, or one of another explainer or other options.
        """
        path = Path(source)
        file = path / FILE if path.is_dir() else path
        remedy = "give the folder of an evaluation with this explainer, or leave explainer.state out to fit again"
        if not file.is_file():
            raise InputError(f"explainer.state={source}: no such file: {file}; {remedy}")
        statistics, metadata = read_safetensors(file, remedy)
        expected = {"class": type(self).__name__, "options": self.options()}
        try:
            found = json.loads(metadata.get(ENTRY, "null"))
        except ValueError:
            found = None
        if found != expected:
            raise InputError(f"{file}: has the statistics of {found}, expected those of {expected}; {remedy}")
        self.statistics = statistics


def _in_float32(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches as float32, with autocast and TF32 switched off while each is used."""
    for images, labels in batches:
        if images.ndim != 4 or labels.shape != images.shape[:1]:
            raise InputError(
                f"expected images (N, 3, H, W) and labels (N,), got {tuple(images.shape)} and {tuple(labels.shape)}"
            )
        with evaluation_precision(images.device.type):
            yield images.detach().float().clone(), labels.detach().clone()
