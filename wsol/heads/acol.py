r"""Adversarial complementary learning (ACoL): a second classifier that cannot see what the first one found.

Zhang et al. 2018, "Adversarial Complementary Learning for Weakly Supervised Object Localization"
(https://arxiv.org/abs/1804.06962). Classifier A reads the features S and makes a map M_A^c for each class c, whose mean
is the class score (section 3.1). Classifier B reads the features after the region that A found for the label y has been
erased (section 3.2, algorithm 1)::

    S'(x, y) = 0 where (M_A^y - min M_A^y) / (max M_A^y - min M_A^y) >= delta, else S(x, y)
    loss     = CE(A(S), y) + CE(B(S'), y)
    map of c = max(M_A^c, M_B^c), each scaled to [0, 1] first

The paper and the released code (github.com/xiaomengyc/ACoL, models/vgg/vgg_v1.py) differ in the class that erases at
test time. The paper makes the map of the predicted class, erased by that class. The default here erases each map by its
own class, which is the same for that map and needs no label. The code erases by the ground-truth label for every map
(``erase_at_test: label``). For chains of more classifiers see `wsol.heads.acol_chain`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from wsol.errors import InputError, unknown
from wsol.heads.erasing import ErasingHead
from wsol.types import FeatureInfo, Output


class AcolHead(ErasingHead):
    """Classifier A, and classifier B on the erased features.

    Args:
        points: the backbone's points.
        num_classes: number of classes K.
        point: the point whose features are read.
        delta: threshold for erasing in (0, 1); None erases nothing, for comparison.
        width: channels of the classifiers' convolutions.
        kernel: side of these convolutions, odd.
        depth: number of these convolutions; 0 leaves only the 1x1 convolution (as for ResNets).
        dropout: dropout probability before each convolution (commented out in the released code).
        maps_from: classifiers whose maps are fused: ``a``, ``b``, or ``ab`` for the maximum of both.
        map_scaling: how each map is scaled before fusion: ``minmax`` or ``max`` (negative values become 0).
        erase_at_test: class whose map erases when maps are made: ``asked``: the class of that map; ``predicted``: A's
            best class; ``label``: the label passed to `forward`, or ``asked`` without labels.

    Raises:
        InputError: an unknown option, or an option out of its range.

    Example:
        >>> import torch
        >>> head = AcolHead({"last": FeatureInfo(channels=64, stride=4)}, num_classes=8, width=32)
        >>> output = head({"last": torch.randn(2, 64, 16, 16)}, labels=torch.tensor([3, 5]))
        >>> sorted(head.loss(output, torch.eye(8)[[3, 5]]))
        ['a', 'b']
        >>> maps = head.maps(output, classes=torch.tensor([[3, 0], [5, 1]]))
        >>> tuple(maps.shape), maps.max().item()
        ((2, 2, 16, 16), 1.0)
    """

    def __init__(
        self,
        points: Mapping[str, FeatureInfo],
        num_classes: int,
        point: str = "last",
        delta: float | None = 0.6,
        width: int = 1024,
        kernel: int = 3,
        depth: int = 2,
        dropout: float = 0.0,
        maps_from: str = "ab",
        map_scaling: str = "minmax",
        erase_at_test: str = "asked",
    ) -> None:
        if delta is not None and not 0 < delta < 1:
            raise InputError(f"delta: expected a threshold strictly between 0 and 1, or null, got {delta}")
        if maps_from not in ("a", "b", "ab"):
            raise unknown("maps_from", maps_from, ("a", "b", "ab"))
        super().__init__(
            points,
            num_classes,
            point=point,
            names="ab",
            maps_from=maps_from,
            map_scaling=map_scaling,
            erase_at_test=erase_at_test,
            width=width,
            kernel=kernel,
            depth=depth,
            dropout=dropout,
        )
        self.delta = delta

    def classify(self, x: Tensor, hidden: Tensor, by: Tensor, last: str = "b") -> dict[str, Tensor]:
        """Run B on the features that A's maps of the classes ``by`` leave; see `ErasingHead.classify`."""
        if last == "a":
            return {"a": hidden}
        return {"a": hidden, "b": self.classifier("b")(self.erased(x, "a", hidden, by, self.delta))}

    def loss(
        self, output: Output, targets: Tensor, label_smoothing: float = 0.0, pseudo: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the cross entropy of each classifier, ``a`` and ``b``; see `Head.loss`."""
        return {
            name: self.cross_entropy(self.classifier(name).scores(of_branch), targets, label_smoothing)
            for name, of_branch in self.hidden(output).items()
        }
