"""The interface of all heads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsol.errors import InputError, unknown
from wsol.types import FeatureInfo, Output


class MissingPointError(InputError):
    """A head needs a point that the backbone does not have."""

    def __init__(self, name: str, points: Mapping[str, FeatureInfo]) -> None:
        super().__init__(str(unknown("point", name, points)))
        self.name = name


class NoMapsError(InputError):
    """A head that gives boxes was asked for maps."""

    def __init__(
        self, asked: str, remedy: str = "leave it out, or make maps of the network with explainer=..."
    ) -> None:
        super().__init__(f"{asked}: a head without maps was asked for maps (it gives one box an image); {remedy}")


class Head(nn.Module, ABC):
    """Base of all heads: from features to class scores, and to maps of any classes from the same forward pass."""

    taps: tuple[str, ...] = ("last",)
    """Names of the backbone's points that `forward` reads."""
    class_weights: Tensor | None
    """float32 (K,) weights of the classes in `cross_entropy`; None for equal weights."""
    reruns: str | None = None
    """The point after which the head runs the backbone's stages again on its own features. `Localizer.forward` then
    calls ``forward(features, labels, rerun)``: ``rerun(x, frozen=True)`` returns the last features (N, C', h', w') for
    x (N, C, h, w) at that point. With ``frozen``, parameters get no gradient, and running statistics do not change."""
    class_agnostic: bool = False
    """Whether the maps of an image are the same for all classes."""
    classifies: bool = True
    """Whether it scores classes; otherwise its logits are (N, 0), and only GT-known localization is evaluated."""
    gives_boxes: bool = False
    """Whether it predicts the box of an image itself, by `boxes`, and has no maps."""
    pseudo: Literal["boxes", "masks"] | None = None
    """The pseudo targets that its loss needs; None: its loss needs none, and training refuses them."""

    def __init__(self, points: Mapping[str, FeatureInfo], num_classes: int) -> None:
        """Store the backbone's points and the number of classes K.

        Raises:
            InputError: fewer than one class.
        """
        super().__init__()
        if num_classes < 1:
            raise InputError(f"num_classes: expected at least 1, got {num_classes}")
        self.points = dict(points)
        self.num_classes = num_classes
        self.register_buffer("class_weights", None, persistent=False)

    def point(self, name: str) -> FeatureInfo:
        """Return the channels and stride of a point.

        Raises:
            MissingPointError: the backbone has no such point; the message lists those it has.
        """
        if name not in self.points:
            raise MissingPointError(name, self.points)
        return self.points[name]

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor], labels: Tensor | None = None) -> Output:
        """Score the classes.

        Args:
            features: float (N, C, h, w) by the name of the tap.
            labels: int64 (N,) ground-truth classes, for methods that use them in training; None otherwise.
        """

    def loss(
        self, output: Output, targets: Tensor, label_smoothing: float = 0.0, pseudo: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the terms of the training loss by name; training minimises their sum.

        Args:
            output: the result of `forward`.
            targets: float (N, K) class probabilities; one-hot, or mixed, as by CutMix.
            label_smoothing: share of the probability spread uniformly over all classes, in [0, 1).
            pseudo: the pseudo targets of the images, if the class attribute `pseudo` asks for them: boxes float32
                (N, 4), x0, y0, x1, y1 in [0, 1] of the network's input, NaN where an image has none; or masks uint8
                (N, 1, H, W) of the input's size.
        """
        return {"classification": self.cross_entropy(output.logits, targets, label_smoothing)}

    def cross_entropy(
        self, logits: Tensor, targets: Tensor, label_smoothing: float = 0.0, goal: Tensor | None = None
    ) -> Tensor:
        """Return the cross entropy with this head's class weights; use it for every classification term of a loss.

        Args:
            logits: float (N, K).
            targets: float (N, K) class probabilities.
            label_smoothing: see `loss`.
            goal: float (N, K) probabilities to learn instead of ``targets``, which then only determine the images'
                weights.
        """
        if goal is None:
            return soft_cross_entropy(logits, targets, label_smoothing, self.class_weights)
        if self.class_weights is None:
            return soft_cross_entropy(logits, goal, label_smoothing)
        each = F.cross_entropy(logits.float(), goal.float(), reduction="none", label_smoothing=label_smoothing)
        return (each * (targets.float() @ self.class_weights)).mean()

    def weigh_classes(self, weights: Tensor | None) -> None:
        """Set the weights of the classes in the loss: float (K,), or None for equal weights.

        Raises:
            InputError: weights for a head whose loss does not use classes.
        """
        if weights is not None and not self.classifies:
            raise InputError(f"class_weights: {type(self).__name__} learns without classes; leave them out")
        device = next((p.device for p in self.parameters()), None)
        self.class_weights = None if weights is None else torch.as_tensor(weights, dtype=torch.float32, device=device)

    @abstractmethod
    def maps(self, output: Output, classes: Tensor) -> Tensor:
        """Return the class maps float32 (N, M, h, w) of the requested classes, unscaled.

        Args:
            output: the result of `forward`.
            classes: int64 (N, M) class indices in 0..K-1, for any M.
        """

    def boxes(self, output: Output) -> Tensor | None:
        """Return the box of each image, x0, y0, x1, y1, float32 (N, 4) in [0, 1] of the network's input, half-open.

        None unless `gives_boxes`.

        Args:
            output: the result of `forward`.
        """
        return None

    def load_classifier(self, state: Mapping[str, Tensor]) -> None:
        """Load a pretrained classifier on the mean features: ``weight`` (K, C) and ``bias`` (K,).

        Raises:
            InputError: this head cannot use one.
        """
        raise InputError(f"{type(self).__name__} cannot use a pretrained classifier: set pretrained_classifier=false")


def soft_cross_entropy(
    logits: Tensor, targets: Tensor, label_smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Return the mean cross entropy () of logits (N, K) with class probabilities (N, K), computed in float32.

    With weights w (K,) it is -1/N sum_i sum_c w_c t_ic log p_ic. The divisor is the number of images, not the sum of
    their weights, so that the mean over processes is the mean over all images.

    Example:
        >>> import torch
        >>> soft_cross_entropy(torch.zeros(1, 4), torch.eye(4)[:1]).exp().round().item()
        4.0
    """
    return F.cross_entropy(logits.float(), targets.float(), weights, label_smoothing=label_smoothing)
