r"""CALM: the location of the evidence is a latent variable of the classifier.

Kim et al., "Keep CALM and Improve Visual Feature Attribution", ICCV 2021 (arXiv 2106.07861). With f(z) the features in
cell z, two 1x1 convolutions predict the probability of the cell and that of each class in it::

    p(z) = a(z) / stopgrad(sum_z a(z)),  a = relu(conv1x1(f))           one plane
    p(y | z) = softmax_y(conv1x1(f)(z))                                 K planes
    p(y, z) = p(y | z) p(z),  p(y) = sum_z p(y, z),  p(z | y) = p(y, z) / p(y)
    loss      em: -sum_z stopgrad(p(z | y)) log p(y, z)        ml: -log p(y)

The scores are log p(y). The map is p(y, z) (``joint``), p(z | y) (``posterior``) or p(z) (``prior``, the same for all
classes). They are probabilities: the authors do not scale them, and use thresholds that are evenly spaced in the
logarithm. As in the released code, the gradient of p(z) does not pass through its denominator. If a is 0 in all
cells of an image, p(z) is uniform here; in the released code it is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsol.errors import unknown
from wsol.heads.base import Head
from wsol.heads.branch import initialise
from wsol.types import FeatureInfo, Output

TRAIN = ("em", "ml")
MAPS = ("joint", "posterior", "prior")
TINY = torch.finfo(torch.float32).tiny
SMALLEST = 1e-8
"""Smaller probabilities of cells are raised to this before their logarithm is taken."""


class CalmHead(Head):
    """A classifier of cells, and a probability distribution over cells.

    Args:
        points: the backbone's points.
        num_classes: number of classes K.
        point: the point whose features are read.
        train: ``em`` (expectation maximisation) or ``ml`` (marginal likelihood).
        map: ``joint``, ``posterior`` or ``prior``.

    Raises:
        InputError: an unknown option or point.

    Example:
        >>> head = CalmHead({"last": FeatureInfo(64, 8)}, num_classes=8)
        >>> output = head({"last": torch.rand(2, 64, 6, 6)})
        >>> maps = head.maps(output, torch.arange(8).expand(2, -1))
        >>> torch.allclose(maps.sum((2, 3)), output.logits.exp(), atol=1e-5)
        True
    """

    def __init__(
        self,
        points: Mapping[str, FeatureInfo],
        num_classes: int,
        point: str = "last",
        train: Literal["em", "ml"] = "em",
        map: Literal["joint", "posterior", "prior"] = "joint",
    ) -> None:
        super().__init__(points, num_classes)
        if train not in TRAIN:
            raise unknown("train", train, TRAIN)
        if map not in MAPS:
            raise unknown("map", map, MAPS)
        self.taps = (point,)
        self.objective, self.map = train, map
        self.class_agnostic = map == "prior"
        channels = self.point(point).channels
        self.classifier = nn.Linear(channels, num_classes)
        self.attention = nn.Conv2d(channels, 1, 1)
        initialise(self)

    def forward(self, features: Mapping[str, Tensor], labels: Tensor | None = None) -> Output:
        """Score the classes in float32, also under autocast; see `Head.forward`. ``labels`` are not used.

        The state has log p(y | z) as ``log_classes`` (N, K, h, w) and p(z) as ``prior`` (N, 1, h, w).
        """
        x = features[self.taps[0]]
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            log_classes = F.conv2d(x, self.classifier.weight[:, :, None, None], self.classifier.bias).log_softmax(1)
            attention = self.attention(x).relu()
            total = attention.sum((2, 3), keepdim=True).detach()
            uniform = torch.full_like(attention, 1 / attention[0].numel())
            prior = torch.where(total > 0, attention / total.clamp(min=TINY), uniform)
            logits = (log_classes + prior.clamp(min=TINY).log()).logsumexp((2, 3))
        return Output(logits, {"log_classes": log_classes, "prior": prior})

    def loss(
        self, output: Output, targets: Tensor, label_smoothing: float = 0.0, pseudo: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``classification``, of the objective ``em`` or ``ml``; see `Head.loss`."""
        targets = targets.float() * (1 - label_smoothing) + label_smoothing / self.num_classes
        gains = output.logits
        if self.objective == "em":
            log_classes, prior = output.state["log_classes"], output.state["prior"]
            log_joint = log_classes + torch.where(prior < SMALLEST, prior + SMALLEST, prior).log()
            posterior = self._posterior(log_classes, prior, output.logits).detach()
            gains = (posterior * log_joint).sum((2, 3))
        each = -(targets * gains).sum(1)
        if self.class_weights is not None:
            each = each * (targets @ self.class_weights)
        return {"classification": each.mean()}

    def maps(self, output: Output, classes: Tensor) -> Tensor:
        """Return probabilities float32 (N, M, h, w); see `Head.maps`."""
        log_classes, prior = output.state["log_classes"], output.state["prior"]
        if self.map == "prior":
            return prior.expand(-1, classes.shape[1], -1, -1)
        asked = classes[:, :, None, None].expand(-1, -1, *prior.shape[2:])
        log_classes = log_classes.gather(1, asked)
        if self.map == "joint":
            return log_classes.exp() * prior
        return self._posterior(log_classes, prior, output.logits.gather(1, classes))

    def _posterior(self, log_classes: Tensor, prior: Tensor, logits: Tensor) -> Tensor:
        """Return p(z | y) float32 (N, M, h, w) from log p(y | z) (N, M, h, w) and log p(y) (N, M)."""
        return (log_classes - logits[:, :, None, None]).exp() * prior
