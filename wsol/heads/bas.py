r"""BAS: a foreground map is learned by suppressing what a frozen copy of the network sees in the background.

Wu et al., "Background Activation Suppression for Weakly Supervised Object Localization", CVPR 2022 (arXiv 2112.00580);
extended in IJCV 2023. f are the features at an inner point, T the stages after it, C the classifier, with one plane per
class; T* and C* are the same with frozen weights, y is the true class, P the localizer's planes::

    P = sigmoid(conv3x3(f)),  M = P_y
    Z = C(T(f)),  s = mean_xy Z,  s' = mean_xy(Z o pool(M))
    b_y = mean_xy C*(T*(stopgrad(f) o (1 - M)))_y
    r = b_y / (stopgrad(s_y) + 1e-8), a constant where b_y > s_y
    loss = cross entropy(s) + alpha cross entropy(s') + mean r + beta mean M

The gradient of r reaches only M, and through P the backbone. Three things keep the map from vanishing: the frozen
copy, the detached denominator, and the constant, for which the loss has no gradient.

``relu: scores`` is the released code of CVPR 2022: ReLU after C, so all scores are >= 0, and r = 0 where b_y >= s_y
(> on ILSVRC; the two differ only if both are equal). ``relu: ratio`` is the code of the extension: no ReLU after C; b_y
and s_y are rectified in r, which is 1 where b_y > s_y. In the copy, batch norms use the statistics of the batch as in
training, and their running statistics do not change. In evaluation, the map is the mean of P over the ``top`` best
classes (80 or 200 of 200 on CUB), or with ``top: 1`` that of each requested class (ILSVRC).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsol.errors import InputError, unknown
from wsol.heads.base import Head
from wsol.heads.branch import Branch
from wsol.types import FeatureInfo, Output

RELUS = ("scores", "ratio")
Rerun = Callable[..., Tensor]


class BasHead(Head):
    """A classifier on the last features and a localizer on features of an inner point.

    Args:
        points: the backbone's points.
        num_classes: number of classes K.
        reruns: the inner point; the stages after it run again.
        point: the point that the classifier reads; the last point.
        width: channels of the classifier's convolutions.
        alpha: weight of the cross entropy of the masked scores.
        beta: weight of the map's area.
        relu: ``scores`` (CVPR 2022) or ``ratio`` (the extension).
        top: number of best classes whose mean is the map; 1 for a map of each class.
        deviation: standard deviation of the normal distribution of the initial weights; None for Glorot and Bengio's
            uniform distribution.

    Raises:
        InputError: an unknown option or point, or an option out of its range.

    Example:
        >>> points = {"mid": FeatureInfo(16, 8), "last": FeatureInfo(32, 16)}
        >>> head = BasHead(points, num_classes=8, width=8)
        >>> features = {"mid": torch.rand(2, 16, 8, 8), "last": torch.rand(2, 32, 4, 4)}
        >>> tail = lambda x, frozen=True: F.avg_pool2d(x, 2).repeat(1, 2, 1, 1)
        >>> output = head(features, torch.tensor([3, 5]), rerun=tail)
        >>> list(head.loss(output, torch.eye(8)[[3, 5]]))
        ['classification', 'masked', 'background', 'area']
        >>> head.maps(output, classes=torch.tensor([[3, 0], [5, 1]])).shape
        torch.Size([2, 2, 8, 8])
    """

    def __init__(
        self,
        points: Mapping[str, FeatureInfo],
        num_classes: int,
        reruns: str = "mid",
        point: str = "last",
        width: int = 1024,
        alpha: float = 0.5,
        beta: float = 1.0,
        relu: Literal["scores", "ratio"] = "ratio",
        top: int = 1,
        deviation: float | None = None,
    ) -> None:
        super().__init__(points, num_classes)
        if relu not in RELUS:
            raise unknown("relu", relu, RELUS)
        if top < 1:
            raise InputError(f"top: expected a number of classes, 1 or more, got {top}")
        if alpha < 0 or beta < 0:
            raise InputError(f"alpha, beta: expected weights of at least 0, got {alpha} and {beta}")
        self.taps, self.reruns = (reruns, point), reruns
        self.alpha, self.beta, self.relu, self.top = alpha, beta, relu, top
        self.class_agnostic = top > 1  # the mean map of the best-scored classes, for every requested class
        self.branch = Branch(self.point(point).channels, num_classes, width)
        self.localizer = nn.Conv2d(self.point(reruns).channels, num_classes, 3, padding=1)
        nn.init.xavier_uniform_(self.localizer.weight)
        if deviation is not None:
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    nn.init.normal_(layer.weight, 0, deviation)

    def forward(
        self, features: Mapping[str, Tensor], labels: Tensor | None = None, rerun: Rerun | None = None
    ) -> Output:
        """Score the classes in float32, also under autocast; see `Head.forward`.

        Args:
            features: float (N, C, h, w) by the names of the taps.
            labels: int64 (N,) true classes, for the loss.
            rerun: runs the stages after the inner point, see `Head.reruns`; for the loss.

        Returns:
            Scores, and a state of ``inner`` (N, C, h, w), the features at the inner point, and ``scores`` (N, K). With
            labels, the state also has ``map`` (N, 1, h, w) of the labels, ``masked`` (N, K), s', and ``background``
            (N,), b.
        """
        inner, last = (features[tap] for tap in self.taps)
        planes = self._planes(self.branch(last), self.branch.classifier.weight, self.branch.classifier.bias)
        logits = planes.mean((2, 3))
        state = {"inner": inner, "scores": logits}
        if labels is not None and rerun is not None:
            own = self._located(inner, labels[:, None])
            weights = F.adaptive_avg_pool2d(own, (planes.shape[2], planes.shape[3]))
            frozen = {name: parameter.detach() for name, parameter in self.branch.named_parameters()}
            outside = rerun(inner.detach() * (1 - own).to(inner.dtype), frozen=True)
            hidden = torch.func.functional_call(self.branch, frozen, (outside,))
            seen = self._planes(hidden, frozen["classifier.weight"], frozen["classifier.bias"])
            background = seen.mean((2, 3)).gather(1, labels[:, None])[:, 0]
            state |= {"map": own, "masked": (planes * weights).mean((2, 3)), "background": background, "labels": labels}
        return Output(logits, state)

    def loss(
        self, output: Output, targets: Tensor, label_smoothing: float = 0.0, pseudo: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``classification``, ``masked``, ``background`` and ``area``; see `Head.loss`.

        Raises:
            InputError: the forward pass had no labels, or could not rerun stages.
        """
        state = output.state
        if "map" not in state:
            raise InputError(
                "the loss of BAS needs the forward pass of a Localizer with labels: localizer(images, labels)"
            )
        with torch.autocast(output.logits.device.type, enabled=False):
            score = output.logits.detach().gather(1, state["labels"][:, None])[:, 0]
            ratio = suppression(state["background"], score, self.relu)
            return {
                "classification": self.cross_entropy(output.logits, targets, label_smoothing),
                "masked": self.alpha * self.cross_entropy(state["masked"], targets, label_smoothing),
                "background": ratio.mean(),
                "area": self.beta * state["map"].mean(),
            }

    def maps(self, output: Output, classes: Tensor) -> Tensor:
        """Return P, or its mean over the best classes, in (0, 1), float32 (N, M, h, w); see `Head.maps`."""
        inner = output.state["inner"]
        if self.top == 1:
            return self._located(inner, classes)
        best = output.state["scores"].topk(min(self.top, self.num_classes)).indices
        return self._located(inner, best).mean(1, keepdim=True).expand(-1, classes.shape[1], -1, -1)

    def _planes(self, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return the planes Z float32 (N, K, h, w) for the input of the branch's 1x1 convolution."""
        with torch.autocast(hidden.device.type, enabled=False):
            planes = F.conv2d(hidden.float(), weight[:, :, None, None], bias)
            return planes.relu() if self.relu == "scores" else planes

    def _located(self, inner: Tensor, classes: Tensor) -> Tensor:
        """Return the planes P float32 (N, M, h, w) of classes (N, M)."""
        planes: Tensor = self.localizer(inner.to(self.localizer.weight.dtype)).float()
        return planes.gather(1, classes[:, :, None, None].expand(-1, -1, *planes.shape[2:])).sigmoid()


def suppression(background: Tensor, score: Tensor, relu: str) -> Tensor:
    """Return the ratios r float32 (N,) of background scores (N,) to scores (N,), which get no gradient.

    Example:
        >>> suppression(torch.tensor([1.0, 3.0, -1.0]), torch.tensor([2.0, 2.0, 2.0]), "ratio").tolist()
        [0.5, 1.0, 0.0]
    """
    score = score.detach().relu()
    background = background.relu()
    ratio = background / (score + 1e-8)
    if relu == "scores":
        return torch.where(background >= score, torch.zeros_like(ratio), ratio)
    return torch.where(background > score, torch.ones_like(ratio), ratio)
