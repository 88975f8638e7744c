r"""SAT: a spatial-aware token gates the attention of a transformer, and its gate is the map.

Wu et al., "Spatial-Aware Token for Weakly Supervised Object Localization", ICCV 2023. With m^l the gate of block l at
the patches (`wsol.backbones.vit_gated`), t_p the patch tokens after the final norm, and N images of a batch::

    map     M = mean of m^l over the gated blocks, the same for every class
    score   s_c = mean_xy (k_c * t)(x, y) + b_c                3x3 convolution, padding 1
    loss    cross entropy(s) + |mean_nxy M - a| + mean_nxy M~ (1 - M~)

The second term keeps the mean area over the batch at a, the third drives the map to 0 or 1; M~ is M filtered by a
Gaussian of 3x3 cells with zero padding. The released code has weights of .805 at the centre, .046 at the edges and .003
at the corners (a standard normal from -6 to 6), and a = .25 on CUB and .35 on ILSVRC. It takes the mean
area over the whole batch on CUB, and over the part of each process on ILSVRC; here it is always over the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from wsol.errors import InputError
from wsol.heads.processes import num_processes, sum_over_processes
from wsol.heads.tscam import TscamHead
from wsol.types import FeatureInfo, Output

RANGE = 6.0
"""Standard deviations on either side of 0 over which the filter's cells divide the normal distribution."""


class SatHead(TscamHead):
    """TS-CAM's scores; the map is the mean gate, which does not depend on the class.

    Args:
        points: the backbone's points.
        num_classes: number of classes K.
        point: point of the patch tokens.
        gate: point of the gates, in (0, 1).
        kernel: side of the convolution, odd.
        area: share a of the cells that the maps of a batch should cover on average.
        area_weight: weight of the second term of the loss.
        norm_weight: weight of the third term.
        smooth: side of the filter, odd.

    Raises:
        InputError: an option out of its range, or a backbone without gates.

    Example:
        >>> points = {"last": FeatureInfo(24, 16), "gate": FeatureInfo(3, 16, groups=3)}
        >>> head = SatHead(points, num_classes=8)
        >>> output = head({"last": torch.randn(2, 24, 6, 6), "gate": torch.full((2, 3, 6, 6), 0.5)})
        >>> terms = head.loss(output, torch.eye(8)[:2])
        >>> list(terms), round(float(terms["area"]), 4)
        (['classification', 'area', 'norm'], 0.25)
        >>> head.maps(output, classes=torch.tensor([[3], [5]])).shape
        torch.Size([2, 1, 6, 6])
    """

    class_agnostic = True

    def __init__(
        self,
        points: Mapping[str, FeatureInfo],
        num_classes: int,
        point: str = "last",
        gate: str = "gate",
        kernel: int = 3,
        area: float = 0.25,
        area_weight: float = 1.0,
        norm_weight: float = 1.0,
        smooth: int = 3,
    ) -> None:
        super().__init__(points, num_classes, point, gate, kernel, map="attention")
        if not 0 <= area <= 1:
            raise InputError(f"area: expected a share of the map in [0, 1], got {area}")
        if smooth < 1 or smooth % 2 == 0:
            raise InputError(f"smooth: expected an odd number of cells, got {smooth}")
        self.area, self.area_weight, self.norm_weight = area, area_weight, norm_weight
        self.heads = self.point(gate).channels
        self.filter: Tensor
        self.register_buffer("filter", gaussian(smooth)[None, None])

    def loss(
        self, output: Output, targets: Tensor, label_smoothing: float = 0.0, pseudo: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``classification``, ``area`` and ``norm``; see `Head.loss`."""
        gate = output.state["attention"][:, None]
        with torch.autocast(gate.device.type, enabled=False):
            smooth = F.conv2d(gate, self.filter, padding=self.filter.shape[-1] // 2)
            undecided = (smooth * (1 - smooth)).mean()
            area = (_mean_over_processes(gate.mean()) - self.area).abs()
        return {
            "classification": self.cross_entropy(output.logits, targets, label_smoothing),
            "area": self.area_weight * area,
            "norm": self.norm_weight * undecided,
        }


def gaussian(side: int) -> Tensor:
    """Return the filter float32 (side, side) of the released code; its sum is 1.

    Example:
        >>> [[round(value, 4) for value in row] for row in gaussian(3).tolist()]
        [[0.0026, 0.046, 0.0026], [0.046, 0.8054, 0.046], [0.0026, 0.046, 0.0026]]
    """
    reach = RANGE + (2 * RANGE + 1) / side / 2
    borders = torch.linspace(-reach, reach, side + 1, dtype=torch.float64)
    line = torch.special.ndtr(borders).diff().sqrt()
    found: Tensor = torch.outer(line, line) / line.sum().square()
    return found.float()


def _mean_over_processes(mean: Tensor) -> Tensor:
    """Return the mean over all processes, with this process's gradient, which DDP averages."""
    return mean + (sum_over_processes(mean) / num_processes() - mean).detach()
