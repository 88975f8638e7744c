r"""DA-WSOL: the classifier is trained on mean features and applied to cells, so it is adapted to the domain of cells.

Zhu et al., "Weakly Supervised Object Localization as Domain Adaption", CVPR 2022 (arXiv 2203.01714). The network is
that of CAM (1x1 convolution, mean of its planes). The cells of each image are clustered by k-means with three centres,
which start at the universum's centre u, at the image's mean, and at the centre c_y of its class::

    clusters    0: universum T_u (background), 1: similar to the source, 2: target
    source S    the image's mean and ``samples`` - 1 random cells of cluster 1
    target T    ``samples`` random cells of cluster 2
    loss        cross entropy + l1 mean_i MMD(S_i, T_i) + l2 mean(T_u)

An image counts in the second term if its clusters are large enough. u and c_y are running means, over all images so
far, of the centres that k-means found for clusters 0 and 1; c_y starts at the image's mean, u at 0. MMD uses Gaussian
kernels, whose bandwidths double from a quarter of the mean squared distance, and the linear-time estimate over pairs of
neighbours: k(s_i, s_j) + k(t_i, t_j) - k(s_i, t_j) - k(s_j, t_i) with j = i + 1.

The released code clusters one image after another and updates the centres in between; here all images of a batch, over
all processes, start from the same centres, which are then updated once. If no image counts, the code divides by 0; here
the term is 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsol.errors import InputError
from wsol.functional.clusters import k_means
from wsol.heads.base import Head
from wsol.heads.branch import initialise
from wsol.heads.processes import sum_over_processes
from wsol.types import FeatureInfo, Output


class DawsolHead(Head):
    """CAM's head with a loss that adapts cells to their mean.

    Args:
        points: the backbone's points.
        num_classes: number of classes K.
        point: the point whose features are read.
        samples: number of cells of the source, and of the target, of an image.
        mmd_weight: l1, weight of the distance between the two.
        universum_weight: l2, weight of the universum's mean feature.
        kernels: number of Gaussian kernels.
        iterations: number of iterations of k-means.

    Raises:
        InputError: an unknown point or an option out of its range.

    Example:
        >>> head = DawsolHead({"last": FeatureInfo(16, 8)}, num_classes=8, samples=4)
        >>> output = head({"last": torch.rand(2, 16, 8, 8)}, labels=torch.tensor([3, 5]))
        >>> list(head.loss(output, torch.eye(8)[[3, 5]]))
        ['classification', 'mmd', 'universum']
        >>> head.class_counts[[3, 4]].tolist()
        [2.0, 0.0]
    """

    class_centres: Tensor
    class_counts: Tensor
    universum: Tensor
    universum_count: Tensor

    def __init__(
        self,
        points: Mapping[str, FeatureInfo],
        num_classes: int,
        point: str = "last",
        samples: int = 32,
        mmd_weight: float = 0.3,
        universum_weight: float = 2.0,
        kernels: int = 5,
        iterations: int = 20,
    ) -> None:
        super().__init__(points, num_classes)
        if samples < 2 or kernels < 1 or iterations < 1:
            raise InputError(
                f"samples, kernels, iterations: expected at least 2, 1 and 1, got {samples}, {kernels} and {iterations}"
            )
        self.taps = (point,)
        self.samples, self.kernels, self.iterations = samples, kernels, iterations
        self.mmd_weight, self.universum_weight = mmd_weight, universum_weight
        channels = self.point(point).channels
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self)
        self.register_buffer("class_centres", torch.zeros(num_classes, channels))
        self.register_buffer("class_counts", torch.zeros(num_classes))
        self.register_buffer("universum", torch.zeros(channels))
        self.register_buffer("universum_count", torch.zeros(()))

    def forward(self, features: Mapping[str, Tensor], labels: Tensor | None = None) -> Output:
        """Score the classes in float32, also under autocast; see `Head.forward`.

        The state has the ``features`` (N, C, h, w) for the maps, and ``labels`` int64 (N,) for the loss.
        """
        x = features[self.taps[0]]
        with torch.autocast(x.device.type, enabled=False):
            logits = self.classifier(x.float().mean((2, 3)))
        return Output(logits, {"features": x} if labels is None else {"features": x, "labels": labels})

    def loss(
        self, output: Output, targets: Tensor, label_smoothing: float = 0.0, pseudo: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``classification``, ``mmd`` and ``universum``, and in training move the centres; see `Head.loss`."""
        x = output.state["features"]
        labels = output.state.get("labels", targets.argmax(1))
        with torch.autocast(x.device.type, enabled=False):
            cells = x.float().flatten(2).transpose(1, 2)
            clusters = self._cluster(cells.detach(), labels)
            outside = clusters == 0
            total = (cells.mean(2) * outside).sum()
            distance, counted = self._discrepancy(cells, clusters)
        return {
            "classification": self.cross_entropy(output.logits, targets, label_smoothing),
            "mmd": self.mmd_weight * (distance * counted).sum() / counted.sum().clamp(min=1),
            "universum": self.universum_weight * total / outside.sum().clamp(min=1),
        }

    def maps(self, output: Output, classes: Tensor) -> Tensor:
        """Return CAM's maps float32 (N, M, h, w), with the bias as in the released code; see `Head.maps`."""
        x = output.state["features"]
        with torch.autocast(x.device.type, enabled=False):
            found = torch.einsum("nchw,nmc->nmhw", x.float(), self.classifier.weight[classes])
            return found + self.classifier.bias[classes][:, :, None, None]

    @torch.no_grad()
    def _cluster(self, cells: Tensor, labels: Tensor) -> Tensor:
        """Return the clusters int64 (N, P) of cells (N, P, C); in training, update the centres."""
        means, member = cells.mean(1), F.one_hot(labels, self.num_classes).to(cells.dtype)
        new = sum_over_processes(torch.cat([member.T @ means, member.sum(0)[:, None]], 1))
        first = new[:, :-1] / new[:, -1:].clamp(min=1)
        unseen = self.class_counts == 0
        centres = torch.where(unseen[:, None], first, self.class_centres)
        starts = torch.stack([self.universum.expand_as(means), means, centres[labels]], 1)
        clusters, found = k_means(cells, starts, self.iterations)
        if self.training:
            seen = torch.cat([member.T @ found[:, 1], member.sum(0)[:, None]], 1)
            background = torch.cat([found[:, 0].sum(0), found.new_tensor([len(cells)])])
            moved = sum_over_processes(torch.cat([seen, background[None]]))
            counts, more = self.class_counts + (unseen & (new[:, -1] > 0)), moved[:-1, -1]
            self.class_centres.copy_(
                (centres * counts[:, None] + moved[:-1, :-1]) / (counts + more).clamp(min=1)[:, None]
            )
            self.class_counts.copy_(counts + more)
            everything = self.universum * self.universum_count + moved[-1, :-1]
            self.universum_count += moved[-1, -1]
            self.universum.copy_(everything / self.universum_count.clamp(min=1))
        return clusters

    def _discrepancy(self, cells: Tensor, clusters: Tensor) -> tuple[Tensor, Tensor]:
        """Return the MMD float32 (N,) of source and target of each image, and whether it counts, bool (N,)."""
        size = min(self.samples, cells.shape[1])
        keys = torch.rand(clusters.shape, device=cells.device)
        source = _sample(cells, torch.where(clusters == 1, keys, keys - 1), size - 1)
        target = _sample(cells, torch.where(clusters == 2, keys, keys - 1), size)
        counted = ((clusters == 1).sum(1) >= self.samples - 1) & ((clusters == 2).sum(1) >= self.samples)
        return linear_mmd(torch.cat([cells.mean(1, keepdim=True), source], 1), target, self.kernels), counted


def linear_mmd(source: Tensor, target: Tensor, kernels: int) -> Tensor:
    """Return the linear-time estimate of the maximum mean discrepancy (N,) of sets (N, m, C) and (N, m, C).

    Example:
        >>> same = torch.rand(1, 4, 3)
        >>> linear_mmd(same, same, kernels=5).item()
        0.0
    """
    m = source.shape[1]
    everything = torch.cat([source, target], 1)
    squares = everything.square().sum(2)
    distances = squares[:, :, None] + squares[:, None] - 2 * everything @ everything.transpose(1, 2)
    distances = distances.clamp(min=0)
    mean = distances.detach().sum((1, 2), keepdim=True) / (2 * m * (2 * m - 1))
    widths = [(mean * 2.0 ** (i - kernels // 2)).clamp(min=torch.finfo(mean.dtype).tiny) for i in range(kernels)]
    values = torch.stack([torch.exp(-distances / width) for width in widths]).sum(0)
    here = torch.arange(m, device=source.device)
    following = (here + 1) % m
    pairs = values[:, here, following] + values[:, here + m, following + m]
    return (pairs - values[:, here, following + m] - values[:, following, here + m]).mean(1)


def _sample(cells: Tensor, keys: Tensor, count: int) -> Tensor:
    """Return the ``count`` of the cells (N, P, C) that have the largest keys (N, P), in their order."""
    chosen = keys.topk(count, dim=1).indices
    return cells.gather(1, chosen[:, :, None].expand(-1, -1, cells.shape[2]))
