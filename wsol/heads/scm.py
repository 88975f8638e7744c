r"""SCM: TS-CAM with layers in training that calibrate attention and semantic maps with each other.

Bai et al., "Weakly Supervised Object Localization via Transformer with Implicit Spatial Calibration", ECCV 2022. S are
TS-CAM's semantic maps of all K classes, as a vector of K values in each of the n cells; F is its attention map, scaled
to [0, 1] by its range, as a vector of n values. In training, L layers refine both, each with two learned scalars::

    E = cosine similarity of the cells of S                                          (n, n)
    Y = G o (lambda E - 1), G the Laplacian of the grid (degree minus adjacency, 4 neighbours)
    X_0 = alpha Y^T;  X_{i+1} = X_i (2 - Y X_i)                                      Newton-Schulz: X becomes Y^-1
    F' = minmax(tanhshrink(X^T F / (beta max F))),  tanhshrink(x) = x - tanh x
    S <- S + S o F';  F <- F + F'

The scores in training are the means of S after the last layer. In evaluation the layers are left out, by design::

    score_c = mean_xy S_c(x, y)        map M_c = minmax(A) S_c

As in the released code: alpha is .002, with 16 iterations in the first layer and 4 in the others, so X is far from an
inverse; and X_0 gets no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsol.errors import InputError
from wsol.functional.attention import min_max_normalize
from wsol.heads.tscam import TscamHead
from wsol.types import FeatureInfo, Output


class ScmHead(TscamHead):
    """TS-CAM's head with calibration layers in training; the grid may have any size.

    Args:
        points: the backbone's points.
        num_classes: number of classes K.
        point: point of the patch tokens.
        attention: point of the class token's attention.
        kernel: side of the convolution, odd.
        map: ``product``; or one of its factors: ``attention`` or ``semantic``.
        iterations: number of Newton-Schulz iterations in each layer.
        alpha: scale of the first estimate of the inverse.
        similarity: initial value of lambda.
        threshold: initial value of beta.

    Raises:
        InputError: an option out of its range, or a backbone without attention.

    Example:
        >>> points = {"last": FeatureInfo(24, 16), "attention": FeatureInfo(4, 16, groups=2)}
        >>> head = ScmHead(points, num_classes=8)
        >>> features = {"last": torch.randn(2, 24, 6, 5), "attention": torch.rand(2, 4, 6, 5)}
        >>> trained, evaluated = head.train()(features).logits, head.eval()(features).logits
        >>> trained.shape, torch.allclose(trained, evaluated)
        (torch.Size([2, 8]), False)
    """

    def __init__(
        self,
        points: Mapping[str, FeatureInfo],
        num_classes: int,
        point: str = "last",
        attention: str = "attention",
        kernel: int = 3,
        map: Literal["product", "attention", "semantic"] = "product",
        iterations: Sequence[int] = (16, 4, 4, 4),
        alpha: float = 0.002,
        similarity: float = 1.0,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(points, num_classes, point, attention, kernel, map)
        if any(count < 1 for count in iterations):
            raise InputError(f"iterations: expected 1 or more for each layer, got {list(iterations)}")
        if not alpha > 0:
            raise InputError(f"alpha: expected more than 0, got {alpha}")
        self.alpha = alpha
        self.layers = nn.ModuleList(Calibration(count, similarity, threshold) for count in iterations)

    def forward(self, features: Mapping[str, Tensor], labels: Tensor | None = None) -> Output:
        """Score the classes in float32, in training after the calibration layers; see `TscamHead.forward`.

        The state's ``attention`` (N, h, w) is scaled to [0, 1].
        """
        output = super().forward(features)
        tokens, state = output.state["tokens"], dict(output.state)
        state["attention"] = min_max_normalize(state["attention"])
        if not self.training or not self.layers:
            return Output(output.logits, state)
        with torch.autocast(tokens.device.type, enabled=False):
            padding = self.classifier.weight.shape[-1] // 2
            planes = F.conv2d(tokens.float(), self.classifier.weight.float(), self._bias, padding=padding)
            cells, attention = planes.flatten(2), state["attention"].flatten(1)
            grid = laplacian(planes.shape[2], planes.shape[3], planes.device)
            for layer in self.layers:
                cells, attention = layer(cells, attention, grid, self.alpha)
        return Output(cells.mean(2), state)


class Calibration(nn.Module):
    """One layer: it spreads attention over the grid and weights the semantic maps with it.

    Args:
        iterations: number of Newton-Schulz iterations.
        similarity: initial value of lambda.
        threshold: initial value of beta.
    """

    def __init__(self, iterations: int, similarity: float, threshold: float) -> None:
        super().__init__()
        self.iterations = iterations
        self.similarity = nn.Parameter(torch.tensor([float(similarity)]))
        self.threshold = nn.Parameter(torch.tensor([float(threshold)]))

    def forward(self, cells: Tensor, attention: Tensor, grid: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        """Refine semantic cells float32 (N, K, n) and attention (N, n) on a grid with Laplacian ``grid`` (n, n)."""
        directions = F.normalize(cells, dim=1, eps=1e-20)
        similar = directions.transpose(1, 2) @ directions
        spread = inverse(grid * (self.similarity * similar - 1), self.iterations, alpha)
        largest = attention.amax(1, keepdim=True).clamp(min=torch.finfo(attention.dtype).tiny)
        moved = (spread.transpose(1, 2) @ attention[..., None])[..., 0] / (self.threshold * largest)
        refined = min_max_normalize(F.tanhshrink(moved)[:, None])[:, 0]
        return cells + cells * refined[:, None], attention + refined


def laplacian(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return the Laplacian float32 (h w, h w) of a grid whose cells have up to 4 neighbours, row by row.

    Example:
        >>> laplacian(1, 3).tolist()
        [[1.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 1.0]]
    """
    cells = torch.arange(height * width, device=device)
    rows, columns = cells // width, cells % width
    apart = (rows[:, None] - rows).abs() + (columns[:, None] - columns).abs()
    adjacent = (apart == 1).float()
    return torch.diag(adjacent.sum(1)) - adjacent


def inverse(matrices: Tensor, iterations: int, alpha: float) -> Tensor:
    """Return the result of Newton-Schulz iteration for matrices (N, n, n): their inverses after enough iterations.

    The first estimate is ``alpha`` times the transpose, without gradient.

    Example:
        >>> inverse(torch.tensor([[[2.0]]]), iterations=20, alpha=0.1)
        tensor([[[0.5000]]])
    """
    found = alpha * matrices.detach().transpose(1, 2)
    for _ in range(iterations):
        found = torch.baddbmm(found, found, matrices @ found, beta=2, alpha=-1)
    return found
