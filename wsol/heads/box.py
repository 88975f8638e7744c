r"""PSOL: a network learns to predict the box of an image by regression, from boxes that another method found.

Zhang, Cao and Wu, "Rethinking the Route Towards Weakly Supervised Object Localization", CVPR 2020; the second stage of
C2AM (Xie et al., CVPR 2022) is the same network. With F the pooled features of an image and t its pseudo box,
both boxes as (x0, y0, width, height) in [0, 1] of the network's input::

    box   b = sigmoid(W_2 relu(W_1 F + c_1) + c_2)
    loss  L = 50 / (4 n) sum_i sum_j (b_ij - t_ij)^2      over the n images of a batch that have a pseudo box

F is the mean over all cells of the last features (ResNet, DenseNet), or the last fully connected layer of VGG-16.
There is no map and no threshold. Classes come from another network (``wsol eval <run> classes=<run>``), or, with
``classify``, from a linear classifier on F that learns by cross entropy at the same time (the paper's PSOL-Joint).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsol.errors import InputError
from wsol.heads.base import Head, NoMapsError
from wsol.heads.processes import num_processes, sum_over_processes
from wsol.types import FeatureInfo, Output


class BoxHead(Head):
    """One box per image, learned from pseudo boxes.

    Args:
        points: the backbone's points.
        num_classes: number of classes K.
        point: where the features are read.
        width: units of the layer before the box.
        weight: factor of the box's squared error in the loss.
        classify: whether a linear classifier also learns the classes.

    Raises:
        InputError: an option out of its range.

    Example:
        >>> head = BoxHead({"last": FeatureInfo(channels=64, stride=4)}, num_classes=8)
        >>> output = head({"last": torch.randn(2, 64, 16, 16)})
        >>> output.logits.shape, head.boxes(output).shape
        (torch.Size([2, 0]), torch.Size([2, 4]))
        >>> list(head.loss(output, torch.eye(8)[:2], pseudo=torch.tensor([[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 1.0]])))
        ['box']
    """

    class_agnostic = True
    classifies = False
    gives_boxes = True
    pseudo = "boxes"

    def __init__(
        self,
        points: Mapping[str, FeatureInfo],
        num_classes: int,
        point: str = "last",
        width: int = 512,
        weight: float = 50.0,
        classify: bool = False,
    ) -> None:
        super().__init__(points, num_classes)
        if width < 1:
            raise InputError(f"width: expected a number from 1, got {width}")
        if not weight > 0:
            raise InputError(f"weight: expected more than 0, got {weight}")
        self.taps, self.weight, self.classifies = (point,), weight, classify
        channels = self.point(point).channels
        self.box = nn.Sequential(nn.Linear(channels, width), nn.ReLU(), nn.Linear(width, 4))
        self.classifier = nn.Linear(channels, num_classes) if classify else None

    def forward(self, features: Mapping[str, Tensor], labels: Tensor | None = None) -> Output:
        """Predict the boxes, and the classes if asked; see `Head.forward`. ``labels`` are not used.

        The state's ``box`` float32 (N, 4) is x0, y0, width, height in [0, 1] of the input.
        """
        x = features[self.taps[0]]
        # These layers cost next to nothing; full precision keeps coordinates to a fraction of a pixel.
        with torch.autocast(x.device.type, enabled=False):
            x = x.float().mean((2, 3))
            logits = x[:, :0] if self.classifier is None else self.classifier(x)
            return Output(logits, {"box": self.box(x).sigmoid()})

    def loss(
        self, output: Output, targets: Tensor, label_smoothing: float = 0.0, pseudo: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``box``, and ``classification`` if classes are learned; see `Head.loss`.

        An image without a pseudo box (NaN) does not contribute to ``box``.

        Raises:
            InputError: no pseudo boxes.
        """
        if pseudo is None:
            raise InputError(f"{type(self).__name__} learns from pseudo boxes, and none were given")
        has_box = pseudo.isfinite().all(1, keepdim=True)
        goal = torch.cat([pseudo[:, :2], pseudo[:, 2:] - pseudo[:, :2]], 1)
        error = torch.where(has_box, output.state["box"] - torch.where(has_box, goal, 0), 0).square()
        # Over all processes: DDP averages their gradients.
        boxes = sum_over_processes(has_box.sum()).clamp(min=1) / num_processes()
        terms = {"box": self.weight * error.sum() / (4 * boxes)}
        if self.classifier is not None:
            terms["classification"] = self.cross_entropy(output.logits, targets, label_smoothing)
        return terms

    def boxes(self, output: Output) -> Tensor:
        """Return the boxes float32 (N, 4); see `Head.boxes`. A box is clipped at the edge of the input."""
        box = output.state["box"]
        return torch.cat([box[:, :2], (box[:, :2] + box[:, 2:]).clamp(max=1)], 1)

    def maps(self, output: Output, classes: Tensor) -> Tensor:
        """Raise an error: there are no maps."""
        raise NoMapsError(type(self).__name__)
