r"""Class activation mapping of any network whose classifier allows it.

Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", equation 2: with f_k(x, y) the k-th of the
last features and w_k^c the weight of the linear classifier on their means::

    M_c(x, y) = sum_k w_k^c f_k(x, y)

If the network classifies each cell and pools the planes of scores, like NIN (Lin et al. 2014) and SqueezeNet, the
planes are the maps: the mean of M_c is the score of class c.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from wsol.errors import InputError
from wsol.explain.base import class_scores, scores
from wsol.explain.layers import LayerExplainer, captured, only
from wsol.heads.base import Head
from wsol.types import Output


class CAM(LayerExplainer):
    """CAM: a localizer's own maps; for a plain classifier, the maps of its last linear layer, or its planes of scores.

    Args:
        layer: see `LayerExplainer`; None for a localizer, whose head determines it.
        layout: see `LayerExplainer`.
        chunk_size: see `Explainer`.

    Raises:
        InputError: when called, the classifier's scores are neither the mean of the layer nor linear in it, or a layer
            is given for a localizer.

    Example:
        >>> from torchvision.models import resnet18
        >>> CAM()(resnet18(), torch.randn(2, 3, 64, 64), torch.tensor([[3, 0], [5, 1]])).shape
        torch.Size([2, 2, 2, 2])
    """

    def explain(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return (N, M, h, w); see `Explainer.explain`."""
        if isinstance(head := getattr(model, "head", None), Head):
            return self._own(model, head, images, classes)
        layer = self.resolve_layer(model, images)
        with torch.no_grad(), captured(model, layer) as seen, _vectors(model) as vectors:
            logits = scores(model, images)
        class_scores(logits, classes)
        features = self.as_maps(only(seen, layer))
        mean = features.mean((-2, -1))
        if _equal(logits, mean):  # one pooled plane for each class: NIN, SqueezeNet
            index = classes[:, :, None, None].expand(-1, -1, *features.shape[-2:])
            return features.gather(1, index)
        for linear, read, given in reversed(vectors):
            if _equal(given, logits) and _equal(read, mean):
                return torch.einsum("nchw,nmc->nmhw", features, linear.weight.flatten(1)[classes])
        raise InputError(
            f"{type(model).__name__}: its scores are neither the means of {layer!r} nor linear in them, so there is no "
            "CAM; use explainer=gradcam, or name the layer"
        )

    def _own(self, model: nn.Module, head: Head, images: Tensor, classes: Tensor) -> Tensor:
        if self.layer is not None:
            raise InputError(f"layer={self.layer}: the head of this localizer makes the CAM; leave the layer out")
        with torch.no_grad():
            output = model(images)
            assert isinstance(output, Output)
            class_scores(output.logits, classes)
            return head.maps(output, classes)


@contextmanager
def _vectors(model: nn.Module) -> Iterator[list[tuple[nn.Linear | nn.Conv2d, Tensor, Tensor]]]:
    """Collect input and output of linear layers that read vectors, including 1x1 convolutions of pooled features."""
    found: list[tuple[nn.Linear | nn.Conv2d, Tensor, Tensor]] = []

    def note(module: nn.Linear | nn.Conv2d, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        """Store a layer with its input (N, C) and output (N, K), unless it read a map."""
        if out.flatten(1).shape[1] == out.shape[1]:
            found.append((module, inputs[0].flatten(1), out.flatten(1)))

    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)):
                stack.callback(module.register_forward_hook(note).remove)
        yield found


def _equal(found: Tensor, mean: Tensor) -> bool:
    return found.shape == mean.shape and torch.allclose(found, mean, rtol=1e-3, atol=1e-4)
