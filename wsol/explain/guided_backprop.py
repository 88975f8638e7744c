r"""Guided backpropagation: the gradient by the image, which passes each ReLU only where it is positive.

Springenberg et al. 2015, "Striving for Simplicity: The All Convolutional Net", section 3.4: backwards through
``f = ReLU(x)``::

    R_x = [x > 0] [R_f > 0] R_f
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wsol.errors import InputError
from wsol.explain.base import PixelExplainer, class_scores, gradients, scores

RELUS = frozenset({F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})


class GuidedBackprop(PixelExplainer):
    """Guided backpropagation.

    Every ReLU counts, whether a module, reused, or a function (GoogLeNet's, Inception's), which hooks on modules would
    miss.

    Args:
        chunk_size: see `Explainer`.

    Raises:
        InputError: when called, a network without ReLU (GELU, SiLU): there the method is not defined.

    Example:
        >>> from torchvision.models import resnet18
        >>> GuidedBackprop()(resnet18(), torch.randn(2, 3, 64, 64), torch.tensor([[3], [5]])).shape
        torch.Size([2, 1, 64, 64])
    """

    def attributions(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return the guided gradient; see `PixelExplainer.attributions`."""
        at = images.clone().requires_grad_()
        with _Guided() as guided:
            asked = class_scores(scores(model, at.clone()), classes)
        if not guided.met:
            raise InputError(f"{type(model).__name__} has no ReLU to guide the gradient; use explainer=saliency")
        return gradients(asked, at)


class _Guided(TorchFunctionMode):
    """While it lasts, what comes out of a ReLU passes back positive gradients only."""

    met = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in RELUS and out.requires_grad:
            self.met += 1
            out.register_hook(lambda slope: slope.clamp(min=0))
        return out
