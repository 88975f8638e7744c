"""The base of all explainers; it leaves the explained network as it found it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from wsol.errors import InputError
from wsol.models.classifier import Classifier
from wsol.models.precision import evaluation_precision
from wsol.types import Output


class Explainer(ABC):
    """Base of all explainers.

    The network runs in evaluation mode and in float32, without autocast or TF32, whatever the type of its weights.
    Afterwards, also after an error, its modes, weights, ``requires_grad``, gradients and hooks are as before. Gradients
    also work under `torch.inference_mode`.

    Args:
        chunk_size: number of images, or of altered copies of them, in one forward pass; None for all images of a call.
            Maps depend on it only by rounding.

    Raises:
        InputError: a chunk size below 1.
    """

    class_agnostic: bool = False
    """Whether the map of an image is the same for all classes."""
    needs_scores: bool = True
    """Whether it uses class scores, so that the network must be a classifier."""

    def __init__(self, chunk_size: int | None = None) -> None:
        if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size < 1):
            raise InputError(f"chunk_size: expected a number of images from 1, or null, got {chunk_size!r}")
        self.chunk_size = chunk_size

    def __call__(self, model: nn.Module, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return the maps of some classes.

        Args:
            model: a `wsol.models.localizer.Localizer`, or any network from images to class scores (N, K).
            images: float (N, 3, H, W), normalised as the network expects.
            classes: int64 (N, M) classes of the maps, any M. A class-agnostic explainer needs none and then returns one
                map for each image.

        Returns:
            float32 (N, M, h, w), unscaled, over the whole input; h, w are those of the layer, or H, W.

        Raises:
            InputError: shapes do not fit, the network does not have a class, or it has no class scores.
        """
        if classes is None:
            if not self.class_agnostic:
                raise InputError(f"{type(self).__name__} needs classes (N, M): its maps are of classes")
            classes = torch.zeros(len(images), 1, dtype=torch.int64, device=images.device)
        if self.needs_scores and not classifies(model):
            raise InputError(
                f"{type(self).__name__} explains class scores, but this network does not classify; choose an explainer "
                "that needs no class scores, such as explainer=lost, tokencut, dino_attention or patch_pca"
            )
        if images.ndim != 4 or classes.ndim != 2 or len(classes) != len(images):
            raise InputError(
                f"expected images (N, 3, H, W) and classes (N, M), got {tuple(images.shape)} and {tuple(classes.shape)}"
            )
        if not classes.numel():
            return images.new_zeros(*classes.shape, 1, 1)
        model = model.network if isinstance(model, Classifier) else model
        with torch.inference_mode(False), torch.enable_grad(), evaluation_precision(images.device.type):
            own = images.detach().float().clone()  # an inference tensor could have no gradient
            asked = classes.detach().clone()
            size = self.chunk_size or len(own)
            with eval_mode(model):
                parts = [
                    self.explain(model, some, of_some).detach().float()
                    for some, of_some in zip(own.split(size), asked.split(size), strict=True)
                ]
            return torch.cat(parts)

    @abstractmethod
    def explain(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return the maps of one chunk; the network is in evaluation mode, without gradients. See `__call__`."""

    def about(self) -> dict[str, Any]:
        """Return what results should record about the maps made so far, as plain values; counts are per process."""
        return {}


class ClassAgnosticExplainer(Explainer):
    """Base of the explainers that find the one object of an image without using classes."""

    class_agnostic = True
    needs_scores = False

    @abstractmethod
    def object_maps(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return float (N, h, w), high at the object."""

    def explain(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return (N, M, h, w), the same map for each class; see `Explainer.explain`."""
        if classifies(model) and isinstance(known := getattr(model, "num_classes", None), int):
            check_classes(classes, known)
        with torch.no_grad():
            maps = self.object_maps(model, images)
        return maps[:, None].expand(-1, classes.shape[1], -1, -1)


class PixelExplainer(Explainer):
    """Base of the explainers that attribute the class score to every value of the input.

    A pixel's importance is the largest magnitude among its colours (Simonyan et al. 2014, section 3.1).
    """

    @abstractmethod
    def attributions(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return float (N, M, 3, H, W), with signs."""

    def explain(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return (N, M, H, W); see `Explainer.explain`."""
        return self.attributions(model, images, classes).abs().amax(2)


def classifies(model: nn.Module) -> bool:
    """Return whether a network has class scores; a headless network of timm (``num_classes=0``) has none.

    Example:
        >>> import timm
        >>> classifies(timm.create_model("resnet10t", num_classes=0)), classifies(timm.create_model("resnet10t"))
        (False, True)
    """
    found = getattr(model, "classifies", None)
    return bool(found) if isinstance(found, bool) else getattr(model, "num_classes", None) != 0


def scores(model: nn.Module, images: Tensor) -> Tensor:
    """Return the class scores (N, K) of a localizer or a plain classifier.

    Raises:
        InputError: the network returns something else.
    """
    output = model(images)
    logits = output.logits if isinstance(output, Output) else output
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"{type(model).__name__}: expected class scores (N, K), got {shape}; give a classifier")
    return logits


def class_scores(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the scores (N, M) of the requested classes.

    Raises:
        InputError: a class outside the range.
    """
    check_classes(classes, logits.shape[1])
    return logits.gather(1, classes)


def check_classes(classes: Tensor, count: int) -> None:
    """Refuse classes outside of 0..count-1.

    Raises:
        InputError: a class is outside the range.
    """
    low, high = int(classes.min()), int(classes.max())
    if low < 0 or high >= count:
        raise InputError(f"class {low if low < 0 else high}: the network has the classes 0..{count - 1}")


def gradients(asked: Tensor, at: Tensor) -> Tensor:
    """Return the gradients (N, M, ...) of scores (N, M) with respect to a tensor (N, ...); one backward pass per class.

    Raises:
        InputError: the scores do not depend on the tensor.
    """
    last = asked.shape[1] - 1
    try:
        found = [torch.autograd.grad(asked[:, m].sum(), at, retain_graph=m < last)[0] for m in range(last + 1)]
    except RuntimeError as error:
        if "appears to not have been used" in str(error) or "does not require grad" in str(error):
            raise InputError("the class scores do not depend on this layer; choose a layer before them") from error
        raise
    return torch.stack(found, 1)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Keep a network in evaluation mode and float32, its parameters without gradient; restore everything afterwards.

    Parameters and buffers of another floating-point type (float16, bfloat16, float64) are replaced by float32 copies
    within the block; the originals are put back unchanged.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    values = [
        (tensor, tensor.data)
        for tensor in (*model.parameters(), *model.buffers())
        if tensor.is_floating_point() and tensor.dtype != torch.float32
    ]
    try:
        model.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        for tensor, value in values:
            tensor.data = value.float()
        yield
    finally:
        for tensor, value in values:
            tensor.data = value
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
