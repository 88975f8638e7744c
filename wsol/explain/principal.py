"""The base of explainers with a principal component: one component per image, or one of a dataset."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from wsol.errors import InputError, unknown
from wsol.explain.base import ClassAgnosticExplainer
from wsol.explain.fitted_explainer import FittedExplainer
from wsol.functional.principal import SIGNS, Component, Moments, Sign, first_component, image_components, project

FITS = ("image", "dataset")


class PrincipalExplainer(ClassAgnosticExplainer, FittedExplainer):
    """Base of the explainers whose map is the projection of each cell onto the first principal component.

    Args:
        fit_on: ``image``, a component for each image; or ``dataset``, one component of all images given to `fit`.
        sign: rule for the component's sign, see `wsol.functional.principal`.
        centre: whether the mean is subtracted.
        state: for ``fit_on: dataset``, see `FittedExplainer`.
        chunk_size: see `Explainer`.

    Raises:
        InputError: an unknown option, or a state without ``fit_on: dataset``.
    """

    def __init__(
        self,
        fit_on: Literal["image", "dataset"] = "image",
        sign: Sign = "border",
        centre: bool = True,
        state: str | Path | None = None,
        chunk_size: int | None = None,
    ) -> None:
        if fit_on not in FITS:
            raise unknown("fit_on", fit_on, FITS)
        if sign not in SIGNS:
            raise unknown("sign", sign, SIGNS)
        if state is not None and fit_on != "dataset":
            raise InputError("state: only fit_on=dataset has statistics; set it, or leave the state out")
        self.fit_on, self.sign, self.centre = fit_on, sign, centre
        self._images = self._flipped = 0
        super().__init__(state, chunk_size)

    @abstractmethod
    def read_features(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return the features (N, C, h, w)."""

    @property
    def needs_fit(self) -> bool:
        """Whether the component is one of a dataset."""
        return self.fit_on == "dataset"

    def options(self) -> dict[str, str]:
        """Return the rules; see `FittedExplainer.options`."""
        return {"sign": self.sign, "centre": str(self.centre)}

    def gather(self, model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Return the component of all cells of all images; see `FittedExplainer.gather`."""
        total: Moments | None = None
        for images, _ in batches:
            if len(images):
                found = Moments.of(self.read_features(model, images))
                total = found if total is None else total + found
        if total is None:
            raise InputError(f"{type(self).__name__}.fit: there is no image to fit on")
        return first_component(total, self.sign, self.centre)._asdict()

    def object_maps(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return (N, h, w); see `ClassAgnosticExplainer.object_maps`."""
        features = self.read_features(model, images)
        if self.needs_fit:
            component = Component(*(self.require(name).to(features.device) for name in Component._fields))
        else:
            component = image_components(features, self.sign, self.centre)
            self._flipped += int(component.is_flipped.sum())
        self._images += len(features)
        if features.shape[1] != component.mean.shape[1]:
            raise InputError(
                f"{type(self).__name__}: fitted on {component.mean.shape[1]} channels, this network has "
                f"{features.shape[1]}; fit it on this network"
            )
        return project(features, component)

    def about(self) -> dict[str, Any]:
        """Return the rule for the sign, and for how many images its sign differs from that of the loading rule."""
        flipped = self._flipped
        if self.needs_fit and self.is_fitted:
            flipped = self._images * int(self.require("is_flipped")[0])
        return {"sign": self.sign, "images": self._images, "flipped": flipped}
