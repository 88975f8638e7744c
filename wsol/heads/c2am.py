r"""C2AM: a map divides each image into foreground and background, whose features are contrasted over a batch.

Xie et al., "C2AM: Contrastive Learning of Class-Agnostic Activation Map for Weakly Supervised Object Localization and
Semantic Segmentation", CVPR 2022 (arXiv 2203.13505). It uses no labels. With F the features (several points of
the backbone, concatenated), images i and j of a batch of N, and cosines clamped to [.0005, .9995]::

    map     P = sigmoid(BN(k * F))                             3x3 convolution to one plane, no bias
    vectors f = mean_xy P F,  b = mean_xy (1 - P) F
    loss    - mean_ij log(1 - cos(b_i, f_j)) - mean_ij w_ij log cos(f_i, f_j) - the same for b
    weight  w_ij = exp(-alpha r_ij)                            r: rank of j by similarity to i, -1 for i itself

The loss is symmetric in P and 1 - P, so training does not say which of them is the object. Here the sign of a running
mean over the training images of all processes decides,

    border <- (1 - m) border + m mean over the batch of (mean of P at the border - mean of P)

which is a buffer: it is saved with the weights, continues when training is resumed, and does not change in evaluation.
The released code looks at one image, the first of the last batch of the first epoch: if P > .5 at most of its border
(the mean of its four sides), P counts as the background from then on. ``decide_at`` is the number of that batch.

Pairs are formed within a process, as in the released code, so several processes have fewer pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsol.errors import InputError
from wsol.heads.base import Head
from wsol.heads.processes import from_first_process, sum_over_processes
from wsol.types import FeatureInfo, Output

LEAST = 5e-4
"""Least distance of cosines from 0 and 1, so that logarithms and their gradients are finite."""


class C2amHead(Head):
    """One map per image, learned without labels; the network does not classify.

    Args:
        points: the backbone's points.
        num_classes: number of classes K of the dataset; it has no effect.
        read: the points whose features are concatenated, at the size of the first one.
        alpha: how fast the weights fall with the rank; 0 gives all pairs the same weight.
        momentum: m of the running mean that decides which side of P is the object, in (0, 1].
        decide_at: number of the training batch whose first image decides it instead, for good, as in the released code;
            before, P is the object. With several processes it is the first one's image. None for the running mean.

    Raises:
        InputError: an unknown point or an option out of its range.

    Example:
        >>> points = {"last": FeatureInfo(16, 16), "mid": FeatureInfo(8, 8)}
        >>> head = C2amHead(points, num_classes=8)
        >>> output = head({"last": torch.rand(2, 16, 4, 4), "mid": torch.rand(2, 8, 8, 8)})
        >>> output.logits.shape, list(head.loss(output, torch.eye(8)[:2]))
        (torch.Size([2, 0]), ['contrast', 'foreground', 'background'])
        >>> maps = head.maps(output, classes=torch.tensor([[3, 5], [0, 1]]))
        >>> maps.shape, torch.equal(maps[:, 0], maps[:, 1])
        (torch.Size([2, 2, 4, 4]), True)
    """

    class_agnostic = True
    classifies = False
    border: Tensor
    """float32 (), above 0 where P is the background."""
    batches: Tensor
    """int64 (), training batches so far, with ``decide_at``."""

    def __init__(
        self,
        points: Mapping[str, FeatureInfo],
        num_classes: int,
        read: Sequence[str] = ("last", "mid"),
        alpha: float = 0.05,
        momentum: float = 0.01,
        decide_at: int | None = None,
    ) -> None:
        super().__init__(points, num_classes)
        if not read or isinstance(read, str):
            raise InputError(f"read: expected a list of points, got {read!r}")
        if not alpha >= 0:
            raise InputError(f"alpha: expected a number from 0, got {alpha}")
        if not 0 < momentum <= 1:
            raise InputError(f"momentum: expected a share of the running mean in (0, 1], got {momentum}")
        if decide_at is not None and decide_at < 1:
            raise InputError(f"decide_at: expected the number of a batch from 1, or null, got {decide_at}")
        self.taps = tuple(read)
        self.alpha, self.momentum, self.decide_at = alpha, momentum, decide_at
        self.activation = nn.Conv2d(sum(self.point(name).channels for name in self.taps), 1, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(1)
        self.register_buffer("border", torch.zeros(()))
        if decide_at is not None:
            self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, features: Mapping[str, Tensor], labels: Tensor | None = None) -> Output:
        """Compute the map and the vectors in float32, also under autocast; see `Head.forward`.

        The logits are (N, 0). The state has ``activation`` P (N, h, w) in [0, 1], and the vectors ``covered`` f and
        ``left`` b (N, C).
        """
        first = features[self.taps[0]]
        with torch.autocast(first.device.type, enabled=False):
            x = torch.cat([_resized(features[name].float(), first.shape[2:]) for name in self.taps], 1)
            activation = self.norm(self.activation(x)).sigmoid()
            cells, weights = x.flatten(2), activation.flatten(2)
            size = cells.shape[2]
            covered, left = (cells @ w.transpose(1, 2) / size for w in (weights, 1 - weights))
        state = {"activation": activation[:, 0], "covered": covered[:, :, 0], "left": left[:, :, 0]}
        return Output(x.new_zeros(x.shape[0], 0), state)

    def loss(
        self, output: Output, targets: Tensor, label_smoothing: float = 0.0, pseudo: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``contrast``, ``foreground`` and ``background``; training updates the running mean. See `Head.loss`.

        ``targets`` and ``label_smoothing`` have no effect. For a single image, only ``contrast`` has a gradient.
        """
        covered, left = output.state["covered"], output.state["left"]
        if self.training:
            (self._follow if self.decide_at is None else self._decide)(output.state["activation"].detach())
        with torch.autocast(covered.device.type, enabled=False):
            return {
                "contrast": -torch.log(1 - cosines(left, covered)).mean(),
                "foreground": likeness_loss(covered, self.alpha),
                "background": likeness_loss(left, self.alpha),
            }

    def maps(self, output: Output, classes: Tensor) -> Tensor:
        """Return the side of P that is the object, float32 (N, M, h, w) in [0, 1], for any class; see `Head.maps`."""
        activation = output.state["activation"]
        found = torch.where(self.border > 0, 1 - activation, activation)
        return found[:, None].expand(-1, classes.shape[1], -1, -1)

    @torch.no_grad()
    def _follow(self, activation: Tensor) -> None:
        """Update the running mean with the maps (N, h, w) of a batch from all processes."""
        at_border = torch.ones_like(activation[0])
        at_border[1:-1, 1:-1] = 0
        each = (activation * at_border).sum((1, 2)) / at_border.sum() - activation.mean((1, 2))
        found = sum_over_processes(torch.stack([each.sum(), each.new_full((), len(each))]))
        self.border.lerp_(found[0] / found[1], self.momentum)

    @torch.no_grad()
    def _decide(self, activation: Tensor) -> None:
        """Let the border of the first map (h, w) of this batch decide, if it is the one that does."""
        self.batches += 1
        if int(self.batches) != self.decide_at:
            return
        first = (activation[0] > 0.5).float()
        share = torch.stack([side.mean() for side in (first[0], first[-1], first[:, 0], first[:, -1])]).mean()
        self.border.copy_(from_first_process(share) - 0.5)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosines (N, M) between the rows of (N, C) and of (M, C), clamped to where the loss is finite.

    Example:
        >>> cosines(torch.eye(2), torch.tensor([[3.0, 0.0]])).tolist()
        [[0.9994999766349792], [0.0005000000237487257]]
    """
    return (F.normalize(a, dim=1) @ F.normalize(b, dim=1).T).clamp(LEAST, 1 - LEAST)


def likeness_loss(vectors: Tensor, alpha: float) -> Tensor:
    """Return the mean over all pairs of vectors (N, C) of - w_ij log cos(v_i, v_j), see the head of this file.

    Images that tie share their cosine, so their order has no effect.

    Example:
        >>> vectors = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
        >>> round(likeness_loss(vectors, alpha=0.0).item(), 3)  # -2 log .6 / 4, and almost nothing for i = j
        0.256
    """
    likeness = cosines(vectors, vectors)
    ranks = likeness.detach().argsort(1, descending=True).argsort(1) - 1
    return -(likeness.log() * torch.exp(-alpha * ranks)).mean()


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Features (N, C, h, w) at another size of the map."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
