r"""Self-produced guidance (SPG): masks from the network's own attention teach its earlier layers where to look.

Zhang et al. 2018, "Self-produced Guidance for Weakly-supervised Object Localization". The min-max scaled map of the
label from a classifier (SPG-A) is the attention. Two small branches (SPG-B) on an early and a middle layer, which share
their final layers, and one (SPG-C) on the last features each predict a foreground map. Their targets come from maps in
[0, 1] with two thresholds each; pixels between the thresholds are ignored::

    G(x, y) = 1 where map > high, 0 where map < low
    loss = CE(A, y) + BCE(B2, G(attention)) + BCE(B1, G(sigmoid B2)) + BCE(C, G((sigmoid B1 + sigmoid B2) / 2))

All maps are upsampled to the size of the input (the last features' cells times their stride). The localization map is
SPG-A's map; SPG-B and SPG-C are only used in training.

Two details come from the released code (github.com/xiaomengyc/SPG, models/google/inception3_spg.py). It has dropout of
0.5 before the classifier's convolutions (``dropout``; default: the paper's 0). And if fewer than 30 pixels are above
the high threshold, the threshold becomes 0.7 of the maximum; there, the lowered threshold stays for the rest of the
batch, while here, as in wsolevaluation, each image has its own. Thresholds of wsolevaluation: (.7, .01), (.5, .05),
(.7, .1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsol.errors import InputError
from wsol.functional.attention import min_max_normalize
from wsol.heads.base import Head
from wsol.heads.branch import Branch, convolution, initialise
from wsol.types import FeatureInfo, Output

FALLBACK = 0.7
"""Fraction of a map's maximum that replaces the high threshold if too few pixels are above it."""


class SpgHead(Head):
    """A classifier with guidance for an early and a middle layer.

    Args:
        points: the backbone's points.
        num_classes: number of classes K.
        early: point that SPG-B1 reads.
        mid: point that SPG-B2 reads.
        point: point that the classifier reads.
        width: channels of the classifier's convolutions.
        kernel: side of all convolutions except the 1x1 ones, odd.
        depth: number of the classifier's convolutions; 0 leaves only a 1x1 convolution.
        dropout: dropout probability before each of them; SPG-C has the same input as the last of them.
        b_width: channels of SPG-B.
        c_width: channels of SPG-C.
        thresholds: (high, low) for the targets of B2, of B1 and of C.
        min_foreground: the high threshold is lowered if fewer pixels than this are foreground.

    Raises:
        InputError: an unknown point, or an option out of its range.

    Example:
        >>> points = {"early": FeatureInfo(16, 2), "mid": FeatureInfo(32, 4), "last": FeatureInfo(64, 4)}
        >>> head = SpgHead(points, num_classes=8, width=32, b_width=16, c_width=16)
        >>> features = {"early": torch.randn(2, 16, 16, 16), "mid": torch.randn(2, 32, 8, 8)}
        >>> output = head(features | {"last": torch.randn(2, 64, 8, 8)}, labels=torch.tensor([3, 5]))
        >>> sorted(head.loss(output, torch.eye(8)[[3, 5]]))
        ['b1', 'b2', 'c', 'classification']
        >>> tuple(head.maps(output, classes=torch.tensor([[3, 0], [5, 1]])).shape)
        (2, 2, 8, 8)
    """

    def __init__(
        self,
        points: Mapping[str, FeatureInfo],
        num_classes: int,
        early: str = "early",
        mid: str = "mid",
        point: str = "last",
        width: int = 1024,
        kernel: int = 3,
        depth: int = 2,
        dropout: float = 0.0,
        b_width: int = 512,
        c_width: int = 512,
        thresholds: Sequence[Sequence[float]] = ((0.7, 0.05), (0.5, 0.05), (0.7, 0.1)),
        min_foreground: int = 30,
    ) -> None:
        super().__init__(points, num_classes)
        self.taps = (early, mid, point)
        self.thresholds = _checked(thresholds)
        if min_foreground < 0:
            raise InputError(f"min_foreground: expected a number of pixels, 0 or more, got {min_foreground}")
        self.min_foreground, self.stride = min_foreground, self.point(point).stride
        self.branch = Branch(self.point(point).channels, num_classes, width, kernel, depth, dropout)
        self.b1 = nn.Sequential(*convolution(self.point(early).channels, b_width, kernel))
        self.b2 = nn.Sequential(*convolution(self.point(mid).channels, b_width, kernel))
        self.tail = nn.Sequential(*convolution(b_width, b_width, kernel), nn.Conv2d(b_width, 1, 1))
        self.c = nn.Sequential(*convolution(self.branch.channels, c_width, kernel), nn.Conv2d(c_width, 1, 1))
        initialise(self)

    def forward(self, features: Mapping[str, Tensor], labels: Tensor | None = None) -> Output:
        """Compute the class scores in float32, also under autocast; see `Head.forward`.

        Args:
            features: float (N, C, h, w) by the names of the taps.
            labels: int64 (N,): classes whose maps are the attention; the best class without labels.

        Returns:
            Scores, and a state of ``hidden`` (N, D, h, w), the features before the 1x1 convolution, ``early`` and
            ``mid``, the features at these points, and ``labels`` int64 (N,).
        """
        early, mid, last = (features[tap] for tap in self.taps)
        hidden = self.branch(last)
        logits = self.branch.scores(hidden)
        labels = logits.detach().argmax(1) if labels is None else labels
        return Output(logits, {"hidden": hidden, "early": early, "mid": mid, "labels": labels})

    def loss(
        self, output: Output, targets: Tensor, label_smoothing: float = 0.0, pseudo: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``classification``, ``b2``, ``b1`` and ``c``; see `Head.loss`."""
        state = output.state
        b1, b2, c = self.tail(self.b1(state["early"])), self.tail(self.b2(state["mid"])), self.c(state["hidden"])
        size = [cells * self.stride for cells in state["hidden"].shape[2:]]
        with torch.autocast(b1.device.type, enabled=False):
            b1, b2, c = (F.interpolate(plane.float(), size, mode="bilinear") for plane in (b1, b2, c))
            with torch.no_grad():
                plane = self.maps(output, state["labels"][:, None])
                attention = min_max_normalize(F.interpolate(plane, size, mode="bilinear"))
                p1, p2 = b1.sigmoid(), b2.sigmoid()
            guided = {"b2": (b2, attention), "b1": (b1, p2), "c": (c, (p1 + p2) / 2)}
            terms = {"classification": self.cross_entropy(output.logits, targets, label_smoothing)}
            for (name, (logits, guide)), (high, low) in zip(guided.items(), self.thresholds, strict=True):
                is_object, counted = seeds(guide, high, low, self.min_foreground)
                each = F.binary_cross_entropy_with_logits(logits, is_object.float(), reduction="none")
                terms[name] = (each * counted).sum() / counted.sum().clamp(min=1)
        return terms

    def maps(self, output: Output, classes: Tensor) -> Tensor:
        """Return the maps of SPG-A, without the bias, float32 (N, M, h, w); see `Head.maps`."""
        return self.branch.class_maps(output.state["hidden"], classes)


def seeds(maps: Tensor, high: float, low: float, min_foreground: int) -> tuple[Tensor, Tensor]:
    """Make targets from maps: which pixels are object, and which count in the loss.

    Args:
        maps: float (N, 1, H, W) in [0, 1].
        high: above it is object; a map with fewer than ``min_foreground`` such pixels uses 0.7 of its maximum instead.
        low: below it is background, even above the lowered high threshold.
        min_foreground: number of pixels.

    Returns:
        Two tensors bool (N, 1, H, W): object; object or background.

    Example:
        >>> is_object, counted = seeds(torch.tensor([[[[0.0, 0.3, 0.8]]], [[[0.0, 0.3, 0.4]]]]), 0.7, 0.1, 1)
        >>> is_object.int().tolist()
        [[[[0, 0, 1]]], [[[0, 1, 1]]]]
        >>> counted.int().tolist()
        [[[[1, 0, 1]]], [[[1, 1, 1]]]]
    """
    above, below = maps > high, maps < low
    too_few = above.sum((-2, -1), keepdim=True) < min_foreground
    is_object = torch.where(too_few, maps > FALLBACK * maps.amax((-2, -1), keepdim=True), above) & ~below
    return is_object, is_object | below


def _checked(thresholds: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    pairs = [tuple(pair) for pair in thresholds]
    if len(pairs) != 3 or any(len(pair) != 2 or not 0 <= pair[1] < pair[0] <= 1 for pair in pairs):
        raise InputError(
            "thresholds: expected three pairs (high, low), 0 <= low < high <= 1, for the targets of B2, B1 and C, such "
            f"as [[0.7, 0.05], [0.5, 0.05], [0.7, 0.1]]; got {[list(pair) for pair in pairs]}"
        )
    return tuple((pair[0], pair[1]) for pair in pairs)
