r"""Chains of adversarial classifiers: ACoL with any number of classifiers, ordinary or adversarial.

As in github.com/junkwhinger/adversarial_complementary_learning. A recipe has one letter per classifier, and each
classifier reads features from which the maps of all classifiers before it have been erased. ``p`` is an ordinary
classifier. ``n`` is an adversarial one: its target is uniform over all other classes, :math:`(1 - t) / (K - 1)`, so its
maps and scores are not used. ``pp`` is ACoL (`wsol.heads.acol`); ``p`` alone is CAM.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsol.errors import InputError, unknown
from wsol.heads.erasing import ErasingHead
from wsol.types import FeatureInfo, Output

SCORES = ("first", "mean")
FUSIONS = ("max", "mean")


class AcolChainHead(ErasingHead):
    """Classifiers ``a``, ``b``, ... in a chain, with erasing between them.

    Args:
        points: the backbone's points.
        num_classes: number of classes K.
        point: the point whose features are read.
        recipe: one letter per classifier, ``p`` or ``n``; the first is ``p``.
        deltas: threshold in (0, 1) of each classifier except the last, for what it erases for the classifiers after it.
        width: channels of a classifier's convolutions.
        kernel: side of these convolutions, odd.
        depth: number of these convolutions; 0 leaves a 1x1 convolution.
        dropout: dropout probability before each convolution.
        scores: ``first``: the class scores of A; ``mean``: the mean over all ordinary classifiers.
        maps_from: letters of the classifiers whose maps are fused (``a``, ``bc``); None for all ordinary ones.
        fusion: how their maps are fused, ``max`` or ``mean``.
        map_scaling: see `ErasingHead`.
        erase_at_test: see `ErasingHead`.

    Raises:
        InputError: an unknown option, or an option out of its range.

    Example:
        >>> import torch
        >>> head = AcolChainHead({"last": FeatureInfo(64, 4)}, num_classes=8, recipe="ppn", deltas=[0.9, 0.8], depth=0)
        >>> output = head({"last": torch.randn(2, 64, 16, 16)}, labels=torch.tensor([3, 5]))
        >>> sorted(head.loss(output, torch.eye(8)[[3, 5]])), head.maps_from
        (['a', 'b', 'c'], 'ab')
    """

    def __init__(
        self,
        points: Mapping[str, FeatureInfo],
        num_classes: int,
        point: str = "last",
        recipe: str = "pn",
        deltas: Sequence[float] = (0.9,),
        width: int = 1024,
        kernel: int = 3,
        depth: int = 0,
        dropout: float = 0.0,
        scores: str = "first",
        maps_from: str | None = None,
        fusion: str = "max",
        map_scaling: str = "minmax",
        erase_at_test: str = "asked",
    ) -> None:
        _check_chain(recipe, deltas, num_classes)
        if scores not in SCORES:
            raise unknown("scores", scores, SCORES)
        if fusion not in FUSIONS:
            raise unknown("fusion", fusion, FUSIONS)
        names = string.ascii_lowercase[: len(recipe)]
        if maps_from is not None and not (maps_from and set(maps_from) <= set(names)):
            raise InputError(f"maps_from: expected letters of the classifiers {names!r}, got {maps_from!r}")
        ordinary = "".join(name for name, letter in zip(names, recipe, strict=True) if letter == "p")
        super().__init__(
            points,
            num_classes,
            point=point,
            names=names,
            maps_from="".join(sorted(set(maps_from or ordinary))),
            map_scaling=map_scaling,
            erase_at_test=erase_at_test,
            width=width,
            kernel=kernel,
            depth=depth,
            dropout=dropout,
        )
        self.recipe, self.deltas = dict(zip(names, recipe, strict=True)), tuple(deltas)
        self.ordinary, self.scores, self.fusion = ordinary, scores, fusion

    def forward(self, features: Mapping[str, Tensor], labels: Tensor | None = None) -> Output:
        """Score the classes; see `ErasingHead.forward`. All classifiers run here if ``scores`` is ``mean``."""
        output = super().forward(features, labels)
        if self.scores == "first":
            return output
        hidden = self.hidden(output)
        scores = [self.classifier(name).scores(hidden[name]) for name in self.ordinary]
        return Output(torch.stack(scores).mean(0), output.state)

    def classify(self, x: Tensor, hidden: Tensor, by: Tensor, last: str) -> dict[str, Tensor]:
        """Run the classifiers after A; see `ErasingHead.classify`."""
        found, before = {"a": hidden}, "a"
        for name, delta in zip(list(self.recipe)[1:], self.deltas, strict=True):
            if name > last:
                break
            x = self.erased(x, before, found[before], by, delta)
            found[name], before = self.classifier(name)(x), name
        return found

    def loss(
        self, output: Output, targets: Tensor, label_smoothing: float = 0.0, pseudo: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the cross entropy of each classifier; the target of an adversarial one is (1 - t) / (K - 1).

        For a one-hot t this is the negative mean log probability of all other classes.
        """
        terms = {}
        for name, of_branch in self.hidden(output).items():
            goal = None if self.recipe[name] == "p" else (1 - targets) / (self.num_classes - 1)
            terms[name] = self.cross_entropy(self.classifier(name).scores(of_branch), targets, label_smoothing, goal)
        return terms

    def fuse(self, maps: Tensor) -> Tensor:
        """Return one map (...) of the scaled maps (B, ...): their maximum or mean."""
        return maps.amax(0) if self.fusion == "max" else maps.mean(0)


def _check_chain(recipe: str, deltas: Sequence[float], num_classes: int) -> None:
    if not recipe or set(recipe) - set("pn") or recipe[0] != "p" or len(recipe) > len(string.ascii_lowercase):
        raise InputError(
            "recipe: expected a letter for each classifier, p (ordinary) or n (adversarial), starting with p, at most "
            f"{len(string.ascii_lowercase)}, such as 'pn'; got {recipe!r}"
        )
    if len(deltas) != len(recipe) - 1:
        raise InputError(
            f"deltas: recipe {recipe!r} has {len(recipe) - 1} erasing steps and needs one delta for each, "
            f"got {len(deltas)}: {list(deltas)}"
        )
    if wrong := [delta for delta in deltas if not 0 < delta < 1]:
        raise InputError(f"deltas: expected thresholds strictly between 0 and 1, got {wrong[0]}")
    if "n" in recipe and num_classes < 2:
        raise InputError(f"recipe {recipe!r}: an adversarial classifier needs at least 2 classes, got {num_classes}")
