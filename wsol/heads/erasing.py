"""The base of heads with erasing: each classifier reads features that the maps of earlier ones have erased."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wsol.errors import unknown
from wsol.functional.attention import SCALINGS, erase
from wsol.heads.base import Head
from wsol.heads.branch import Branch
from wsol.types import FeatureInfo, Output

ERASERS = ("asked", "predicted", "label")
CELLS = 2**16
"""Approximate number of feature cells (images x classes x h x w) erased and classified at once for maps."""


class ErasingHead(Head):
    """Classifiers ``a``, ``b``, ...; subclasses define what is erased between them and their losses.

    Args:
        points: the backbone's points.
        num_classes: number of classes K.
        point: the point whose features are read.
        names: letters of the classifiers.
        maps_from: letters of those whose maps are fused.
        map_scaling: how each map is scaled before fusion: ``minmax`` or ``max`` (negative values become 0).
        erase_at_test: class whose map erases when maps are made: ``asked``: the class of that map; ``predicted``: A's
            best class; ``label``: the label passed to `forward`, or ``asked`` without labels.
        branch: options of `wsol.heads.branch.Branch`.

    Raises:
        InputError: an unknown option, or an option out of its range.
    """

    def __init__(
        self,
        points: Mapping[str, FeatureInfo],
        num_classes: int,
        *,
        point: str,
        names: str,
        maps_from: str,
        map_scaling: str,
        erase_at_test: str,
        **branch: Any,
    ) -> None:
        super().__init__(points, num_classes)
        if map_scaling not in SCALINGS:
            raise unknown("map_scaling", map_scaling, SCALINGS)
        if erase_at_test not in ERASERS:
            raise unknown("erase_at_test", erase_at_test, ERASERS)
        self.taps = (point,)
        self.maps_from, self.map_scaling, self.erase_at_test = maps_from, map_scaling, erase_at_test
        channels = self.point(point).channels
        self.branches = nn.ModuleDict({name: Branch(channels, num_classes, **branch) for name in names})

    @abstractmethod
    def classify(self, x: Tensor, hidden: Tensor, by: Tensor, last: str) -> dict[str, Tensor]:
        """Return the features (P, D, h, w) that the 1x1 convolutions read, by classifier.

        Args:
            x: features (P, C, h, w).
            hidden: A's features before its 1x1 convolution, (P, D, h, w).
            by: int64 (P,) classes whose maps erase.
            last: letter of the last classifier needed.
        """

    def fuse(self, maps: Tensor) -> Tensor:
        """Fuse the scaled maps of the classifiers (B, ...) into one map (...): their maximum."""
        return maps.amax(0)

    def forward(self, features: Mapping[str, Tensor], labels: Tensor | None = None) -> Output:
        """Compute A's class scores in float32, also under autocast; see `Head.forward`.

        The other classifiers run in `loss` and `maps`.

        Args:
            features: float (N, C, h, w) by the name of the tap.
            labels: int64 (N,): they erase in training, and at test time if ``erase_at_test`` is ``label``. Without
                labels, A's best class erases in training.

        Returns:
            Scores, and a state of ``features`` (N, C, h, w), ``a`` (N, D, h, w), the features that A's 1x1 convolution
            reads, ``predicted`` int64 (N,), and ``labels`` int64 (N,) where they erase.
        """
        x = features[self.taps[0]]
        hidden = self.classifier("a")(x)
        logits = self.classifier("a").scores(hidden)
        state = {"features": x, "a": hidden, "predicted": logits.detach().argmax(1)}
        if labels is not None and (self.training or self.erase_at_test == "label"):
            state["labels"] = labels
        return Output(logits, state)

    def hidden(self, output: Output) -> dict[str, Tensor]:
        """Return the result of `classify` for the batch of ``output``, erased by its labels or else A's best class."""
        state = output.state
        return self.classify(
            state["features"], state["a"], state.get("labels", state["predicted"]), list(self.branches)[-1]
        )

    def erased(self, x: Tensor, name: str, hidden: Tensor, by: Tensor, delta: float | None) -> Tensor:
        """Return features (P, C, h, w) without the region that classifier ``name`` finds for classes ``by`` (P,)."""
        if delta is None:
            return x
        with torch.no_grad():
            plane = self.classifier(name).class_maps(hidden, by[:, None])
        return erase(x, plane, delta)

    def maps(self, output: Output, classes: Tensor) -> Tensor:
        """Return the fused maps float32 (N, M, h, w), in [0, 1] because their parts are scaled; see `Head.maps`.

        The backbone and A ran once for all M. B runs once per pair of image and erasing class, in batches of
        bounded size.
        """
        state, shape = output.state, classes.shape
        by = self._erasing_classes(state, classes)
        asked = classes.reshape(by.numel(), shape[1] // max(by.shape[1], 1))
        images = torch.arange(shape[0], device=classes.device).repeat_interleave(by.shape[1])
        h, w = state["features"].shape[2:]
        if torch.compiler.is_exporting():  # the number of chunks would depend on the number of images
            return self._fused(state, images, by.flatten(), asked).reshape(*shape, h, w)
        size = max(shape[0], CELLS // (h * w), 1)
        parts = zip(images.split(size), by.flatten().split(size), asked.split(size), strict=True)
        return torch.cat([self._fused(state, *part) for part in parts]).reshape(*shape, h, w)

    def _fused(self, state: Mapping[str, Tensor], images: Tensor, by: Tensor, asked: Tensor) -> Tensor:
        """Return the fused maps (P, A, h, w) of pairs of image and erasing class.

        Args:
            state: state of the result of `forward`.
            images: int64 (P,) positions in the batch.
            by: int64 (P,) classes whose maps erase.
            asked: int64 (P, A) classes.
        """
        hidden = self.classify(state["features"][images], state["a"][images], by, last=self.maps_from[-1])
        class_maps = torch.stack([self.classifier(name).class_maps(hidden[name], asked) for name in self.maps_from])
        return self.fuse(SCALINGS[self.map_scaling](class_maps))

    def classifier(self, name: str) -> Branch:
        """Return a classifier by its letter."""
        branch = self.branches[name]
        assert isinstance(branch, Branch)
        return branch

    def _erasing_classes(self, state: Mapping[str, Tensor], classes: Tensor) -> Tensor:
        """Return the classes that erase for the maps of ``classes`` (N, M): (N, M), or (N, 1) if all maps share one."""
        if self.maps_from == "a" or self.erase_at_test == "predicted":
            return state["predicted"][:, None]
        if self.erase_at_test == "label" and "labels" in state:
            return state["labels"][:, None]
        return classes
