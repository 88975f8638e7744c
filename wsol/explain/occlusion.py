r"""Occlusion sensitivity: how much the score falls when a window is hidden.

Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2. With X_w the image whose
window w is filled with the mean colour::

    M_c(x, y) = mean over the windows w that hold (x, y) of S_c(X) - S_c(X_w)
"""

from __future__ import annotations

import torch
from captum.attr import Occlusion as Captum
from torch import Tensor, nn

from wsol.errors import InputError
from wsol.explain.base import Explainer, class_scores, scores


class Occlusion(Explainer):
    """Occlusion sensitivity, by Captum. Windows begin every ``stride`` pixels; the last ones end at the image's edge.

    Args:
        window: side of the hidden square, pixels.
        stride: distance between windows, pixels; at most ``window``.
        chunk_size: number of altered images in one forward pass; None for 32.

    Raises:
        InputError: a stride or window out of range; when called, images smaller than the window.

    Example:
        >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
        >>> Occlusion(window=2, stride=2)(linear, torch.randn(1, 3, 4, 4), torch.tensor([[1]])).shape
        torch.Size([1, 1, 4, 4])
    """

    def __init__(self, window: int = 32, stride: int = 16, chunk_size: int | None = None) -> None:
        super().__init__(chunk_size)
        if not 1 <= stride <= window:
            raise InputError(f"window, stride: expected 1 <= stride <= window, got {window} and {stride}")
        self.window, self.stride = window, stride

    def explain(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return (N, M, H, W); see `Explainer.explain`."""
        if min(images.shape[-2:]) < self.window:
            raise InputError(
                f"window={self.window}: the images have {tuple(images.shape[-2:])} pixels; use a smaller window"
            )
        with torch.no_grad():
            class_scores(scores(model, images), classes)  # raises if there is no such class
        asked = images.repeat_interleave(classes.shape[1], 0)
        found = Captum(lambda x: scores(model, x)).attribute(
            asked,
            sliding_window_shapes=(3, self.window, self.window),
            strides=(3, self.stride, self.stride),
            target=classes.flatten(),
            perturbations_per_eval=max((self.chunk_size or 32) // len(asked), 1),
        )
        result: Tensor = found[:, 0].unflatten(0, tuple(classes.shape))
        return result
