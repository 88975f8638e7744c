r"""DDT: the first principal component of a class's features, over all its training images.

Wei et al. 2019, "Unsupervised Object Discovery and Co-Localization by Deep Descriptor Transforming" (Pattern
Recognition), section 3; the boxes of PSOL (Zhang et al. 2020, "Rethinking the Route Towards Weakly Supervised Object
Localization", CVPR) are made from it. With f(x, y) the features of a layer, and m_c and w_c the mean and the first
principal component of the cells of all training images of class c::

    M_c(x, y) = w_c . (f(x, y) - m_c)

The paper's box encloses the largest component of the cells above 0. PSOL reads VGG-16 after its last pooling, with
images of 448 pixels. The sign of w_c is arbitrary, and the released code keeps the one that its library returns; here
a rule chooses it for each class, see `wsol.functional.principal`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsol.errors import InputError, unknown
from wsol.explain.base import scores
from wsol.explain.fitted_explainer import FittedExplainer
from wsol.explain.layers import LayerExplainer, captured, only
from wsol.functional.principal import SIGNS, Component, Moments, Sign, first_component


class DDT(FittedExplainer, LayerExplainer):
    """DDT, fitted on the images of every class; the labels are used, class scores are not.

    Args:
        layer: see `LayerExplainer`.
        layout: see `LayerExplainer`.
        sign: rule for the components' signs, see `wsol.functional.principal`.
        state: see `FittedExplainer`.
        chunk_size: see `Explainer`.

    Raises:
        InputError: an unknown option; when called, `fit` was not called, or it had no image of a class.

    Example:
        >>> from torchvision.models import resnet18
        >>> model, images, labels = resnet18(), torch.randn(4, 3, 96, 96), torch.tensor([3, 3, 5, 5])
        >>> explainer = DDT()
        >>> explainer.fit(model, [(images, labels)])
        >>> explainer(model, images, torch.tensor([[3, 5]] * 4)).shape
        torch.Size([4, 2, 3, 3])
    """

    needs_scores = False

    def __init__(
        self,
        layer: str | None = None,
        layout: str = "nchw",
        sign: Sign = "border",
        state: str | Path | None = None,
        chunk_size: int | None = None,
    ) -> None:
        if sign not in SIGNS:
            raise unknown("sign", sign, SIGNS)
        self.sign = sign
        LayerExplainer.__init__(self, layer, layout, chunk_size)
        FittedExplainer.__init__(self, state, chunk_size)

    def options(self) -> dict[str, str]:
        """Return the sign's rule and the layer; see `FittedExplainer.options`."""
        return {"sign": self.sign, "layer": str(self.layer), "layout": self.layout}

    def gather(self, model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Return the component of each class; see `FittedExplainer.gather`.

        The images must be sorted by class, so that only the sums of one class, C x C values of float64, are in memory.

        Raises:
            InputError: there is no image, or the images are not sorted by class.
        """
        found: dict[int, Component] = {}
        current, sums = -1, None
        for images, labels in batches:
            if not len(images):
                continue
            features = self._features(model, images)
            for label in labels.unique().tolist():
                of_class = Moments.of(features[labels.to(features.device) == label])
                if sums is not None and label > current:
                    found[current] = first_component(sums, self.sign)
                    sums = None
                if label < current:
                    raise InputError(
                        f"DDT.fit: an image of class {label} came after one of class {current}; give the images in "
                        "the order of their classes"
                    )
                current, sums = label, of_class if sums is None else sums + of_class
        if sums is None:
            raise InputError("DDT.fit: there is no image to fit on")
        found[current] = first_component(sums, self.sign)
        stacked = {name: torch.cat([getattr(one, name) for one in found.values()]) for name in Component._fields}
        return {"classes": torch.tensor(list(found)), **stacked}

    def explain(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return (N, M, h, w); see `Explainer.explain`."""
        fitted = self.require("classes")
        mean, direction = (self.require(name).to(images.device) for name in ("mean", "direction"))
        at = torch.searchsorted(fitted, classes.cpu()).clamp(max=len(fitted) - 1)
        if not torch.equal(fitted[at], classes.cpu()):
            missing = int(classes.cpu()[fitted[at] != classes.cpu()][0])
            raise InputError(
                f"class {missing}: DDT was fitted on {len(fitted)} classes, {int(fitted[0])} to {int(fitted[-1])}, and "
                "had no image of this class; fit it on a dataset that has some"
            )
        at = at.to(images.device)
        with torch.no_grad():
            features = self._features(model, images).double()
        if features.shape[1] != mean.shape[1]:
            raise InputError(f"DDT: fitted on {mean.shape[1]} channels, this network has {features.shape[1]}")
        values = torch.einsum("nchw,nmc->nmhw", features, direction[at])
        return values - (mean * direction).sum(1)[at][:, :, None, None]

    def about(self) -> dict[str, Any]:
        """Return the rule for the sign, and for how many classes its sign differs from that of the loading rule."""
        flipped = self.statistics.get("is_flipped", torch.zeros(0))
        return {"sign": self.sign, "classes": len(flipped), "flipped": int(flipped.sum())}

    def _features(self, model: nn.Module, images: Tensor) -> Tensor:
        with torch.enable_grad():  # needed to find the last map that the scores depend on
            layer = self.resolve_layer(model, images)
        with torch.no_grad(), captured(model, layer) as seen:
            scores(model, images)
        return self.as_maps(only(seen, layer))
