r"""Integrated Gradients: the gradient, integrated along the path from an empty image to this one.

Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep Networks", equation 1, with X_b the empty image::

    R(x, y) = (X - X_b) * integral over a in [0, 1] of dS_c / dX (X_b + a (X - X_b))

The sum of all R is S_c(X) - S_c(X_b). The integral is Captum's Gauss-Legendre sum; X_b is 0, the mean colour.
"""

from __future__ import annotations

import torch
from captum.attr import IntegratedGradients as Captum
from torch import Tensor, nn

from wsol.errors import InputError
from wsol.explain.base import PixelExplainer, class_scores, scores


class IntegratedGradients(PixelExplainer):
    """Integrated Gradients.

    Args:
        steps: points of the sum; each takes a forward and a backward pass per class.
        chunk_size: number of images on the path in one forward pass; None for 32.

    Raises:
        InputError: fewer than one step.

    Example:
        >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        >>> IntegratedGradients(steps=4)(linear, torch.randn(1, 3, 2, 2), torch.tensor([[1]])).shape
        torch.Size([1, 1, 2, 2])
    """

    def __init__(self, steps: int = 32, chunk_size: int | None = None) -> None:
        super().__init__(chunk_size)
        if steps < 1:
            raise InputError(f"steps: expected a number from 1, got {steps}")
        self.steps = steps

    def attributions(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return R; see `PixelExplainer.attributions`."""
        with torch.no_grad():
            class_scores(scores(model, images), classes)  # raises if there is no such class
        asked = images.repeat_interleave(classes.shape[1], 0)
        captum = Captum(lambda x: scores(model, x.clone()), multiply_by_inputs=True)
        found = captum.attribute(
            asked,
            target=classes.flatten(),
            n_steps=self.steps,
            internal_batch_size=max(self.chunk_size or 32, len(asked)),
        )
        result: Tensor = found.unflatten(0, tuple(classes.shape))
        return result
