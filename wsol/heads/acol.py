r"""Adversarial complementary learning (ACoL): classifiers in a chain, each blind to what those before it found.

Zhang et al. 2018, "Adversarial Complementary Learning for Weakly Supervised Object Localization". Classifier A reads
the features S and gives M_A^c, the plane of each class c, whose mean is the score (section 3.1). B reads features in
which the part that A found for the label y is erased (section 3.2, algorithm 1)::

    S'(x, y) = 0 where (M_A^y - min M_A^y) / (max M_A^y - min M_A^y) >= delta, else S(x, y)
    loss = CE(A(S), y) + CE(B(S'), y)
    map of class c = max(M_A^c, M_B^c), each scaled to [0, 1]

The same head is a chain of any number of classifiers (github.com/junkwhinger/adversarial_complementary_learning): each
reads features that the maps of all before it have erased. In its recipe, ``p`` is an ordinary classifier; ``n`` an
adversarial one, whose target is all other classes in equal parts, and which therefore has no say in maps and scores.
``pp`` is ACoL.

Paper and released code (github.com/xiaomengyc/ACoL, models/vgg/vgg_v1.py) differ in the class that erases at test. The
paper makes the map of the predicted class; the default here has every map erased by its own class, which for that map
is the same and needs no truth. The code erases with the true label, whatever map is made (``erase_at_test: label``).
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wsol.errors import InputError, unknown
from wsol.functional.attention import SCALINGS, erase
from wsol.heads.base import Head, soft_cross_entropy
from wsol.heads.branch import Branch
from wsol.types import Output, Point

SCORES = ("first", "mean")
FUSIONS = ("max", "mean")
ERASERS = ("asked", "predicted", "label")
CELLS = 2**16
"""About how many feature cells (images x classes x h x w) are erased and classified at once when maps are made."""


class AcolHead(Head):
    """Classifiers ``a``, ``b``, ... in a chain, with erasing between them.

    Args:
        points: the backbone's points.
        num_classes: number of classes K.
        point: where the features are read.
        recipe: one letter a classifier, ``p`` or ``n``; the first is ``p``. ``p`` alone has no erasing: CAM.
        deltas: one threshold in (0, 1) for each classifier but the last: what it erases for those behind it.
        width: channels of a classifier's convolutions.
        kernel: their side, odd.
        depth: their number; 0 leaves a 1x1 convolution (the form for ResNets).
        dropout: probability of dropping a unit before each convolution (commented out in the released code).
        erase: False trains and maps without erasing, for comparison.
        scores: ``first``: the class scores are A's; ``mean``: the mean of all ordinary classifiers.
        maps_from: letters of the classifiers whose maps are fused (``a``, ``b``, ``ab``); None for all ordinary ones.
        fuse: ``max`` or ``mean`` of their maps.
        map_scaling: how each map is scaled before: ``minmax`` or ``max`` (negative values to 0, over the maximum).
            Erasing has ``minmax`` always.
        erase_at_test: whose maps erase when maps are made: ``asked``: those of the asked class itself; ``predicted``:
            those of A's best class; ``label``: those of the labels that `forward` was given, ``asked`` without labels.

    Raises:
        InputError: an unknown option or one out of its range.

    Example:
        >>> head = AcolHead({"last": Point(channels=64, stride=4)}, num_classes=8, width=32)
        >>> output = head({"last": torch.randn(2, 64, 16, 16)}, labels=torch.tensor([3, 5]))
        >>> sorted(head.loss(output, torch.eye(8)[[3, 5]]))
        ['a', 'b']
        >>> maps = head.maps(output, classes=torch.tensor([[3, 0], [5, 1]]))
        >>> tuple(maps.shape), maps.max().item()
        ((2, 2, 16, 16), 1.0)
    """

    def __init__(
        self,
        points: Mapping[str, Point],
        num_classes: int,
        point: str = "last",
        recipe: str = "pp",
        deltas: Sequence[float] = (0.6,),
        width: int = 1024,
        kernel: int = 3,
        depth: int = 2,
        dropout: float = 0.0,
        erase: bool = True,
        scores: str = "first",
        maps_from: str | None = None,
        fuse: str = "max",
        map_scaling: str = "minmax",
        erase_at_test: str = "asked",
    ) -> None:
        super().__init__(points, num_classes)
        _check_chain(recipe, deltas, num_classes)
        choices = {"scores": SCORES, "fuse": FUSIONS, "map_scaling": SCALINGS, "erase_at_test": ERASERS}
        given = {"scores": scores, "fuse": fuse, "map_scaling": map_scaling, "erase_at_test": erase_at_test}
        for option, value in given.items():
            if value not in choices[option]:
                raise unknown(option, value, choices[option])
        names = string.ascii_lowercase[: len(recipe)]
        ordinary = "".join(name for name, letter in zip(names, recipe, strict=True) if letter == "p")
        if maps_from is not None and not (maps_from and set(maps_from) <= set(names)):
            raise InputError(f"maps_from: expected letters of the classifiers {names!r}, got {maps_from!r}")
        self.taps = (point,)
        self.recipe, self.deltas = dict(zip(names, recipe, strict=True)), tuple(deltas)
        self.erase, self.ordinary, self.fused = erase, ordinary, sorted(set(maps_from or ordinary))
        self.scores, self.fuse, self.map_scaling, self.erase_at_test = scores, fuse, map_scaling, erase_at_test
        channels = self.point(point).channels
        self.branches = nn.ModuleDict(
            {name: Branch(channels, num_classes, width, kernel, depth, dropout) for name in names}
        )

    def forward(self, features: Mapping[str, Tensor], labels: Tensor | None = None) -> Output:
        """Score the classes in float32, also under autocast; see `Head.forward`.

        Only A runs here unless ``scores`` is ``mean``; the others run in `loss` and `maps`, where they are of use.

        Args:
            features: float (N, C, h, w) by the name of the tap.
            labels: int64 (N,): they erase in training, and at test if ``erase_at_test`` is ``label``. Without them A's
                best class erases.

        Returns:
            Scores, and a state of ``features`` (N, C, h, w), ``a``, ... (N, D, h, w), what the planes are made of,
            ``predicted`` int64 (N,), and ``labels`` where they are to erase.
        """
        x = features[self.taps[0]]
        first = self._branch("a")
        state = {"features": x, "a": first(x)}
        logits = first.scores(state["a"])
        state["predicted"] = logits.detach().argmax(1)
        if labels is not None and (self.training or self.erase_at_test == "label"):
            state["labels"] = labels
        if self.scores == "mean":
            state |= self._hidden(state)
            logits = torch.stack([self._branch(name).scores(state[name]) for name in self.ordinary]).mean(0)
        return Output(logits, state)

    def loss(self, output: Output, targets: Tensor, label_smoothing: float = 0.0) -> dict[str, Tensor]:
        """Return one term a classifier, ``a``, ``b``, ...: its cross entropy; see `Head.loss`.

        The targets of an adversarial classifier are (1 - t) / (K - 1): for a one-hot t that is minus the mean log
        probability of all other classes.
        """
        terms = {}
        for name, hidden in self._hidden(output.state).items():
            goal = targets if self.recipe[name] == "p" else (1 - targets) / (self.num_classes - 1)
            terms[name] = soft_cross_entropy(self._branch(name).scores(hidden), goal, label_smoothing)
        return terms

    def maps(self, output: Output, classes: Tensor) -> Tensor:
        """Return the fused maps float32 (N, M, h, w), in [0, 1] since their parts are scaled; see `Head.maps`.

        The backbone and A have run once for all M; the classifiers behind run on as many erased features as there are
        pairs of image and erasing class, in batches of bounded size.
        """
        state, shape = output.state, classes.shape
        by = self._erasing(state, classes)
        asked = classes.reshape(by.numel(), shape[1] // max(by.shape[1], 1))
        images = torch.arange(shape[0], device=classes.device).repeat_interleave(by.shape[1])
        h, w = state["features"].shape[2:]
        if torch.compiler.is_exporting():  # the number of parts would depend on that of the images
            return self._fused(state, images, by.flatten(), asked).reshape(*shape, h, w)
        size = max(shape[0], CELLS // (h * w), 1)
        parts = zip(images.split(size), by.flatten().split(size), asked.split(size), strict=True)
        return torch.cat([self._fused(state, *part) for part in parts]).reshape(*shape, h, w)

    def _fused(self, state: Mapping[str, Tensor], images: Tensor, by: Tensor, asked: Tensor) -> Tensor:
        """The fused maps (P, A, h, w) of some pairs of image and erasing class.

        Args:
            state: of `forward`.
            images: int64 (P,) positions in the batch.
            by: int64 (P,) classes whose planes erase.
            asked: int64 (P, A) classes.
        """
        hidden = self._chain(state["features"][images], state["a"][images], by, upto=self.fused[-1])
        planes = torch.stack([self._branch(name).planes(hidden[name], asked) for name in self.fused])
        scaled = SCALINGS[self.map_scaling](planes)
        return scaled.amax(0) if self.fuse == "max" else scaled.mean(0)

    def _branch(self, name: str) -> Branch:
        branch = self.branches[name]
        assert isinstance(branch, Branch)
        return branch

    def _hidden(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What all planes are made of, by classifier, with the features erased by labels, or else by predictions."""
        if all(name in state for name in self.recipe):
            return {name: state[name] for name in self.recipe}
        return self._chain(state["features"], state["a"], state.get("labels", state["predicted"]), max(self.recipe))

    def _chain(self, x: Tensor, first: Tensor, by: Tensor, upto: str) -> dict[str, Tensor]:
        """Run the chain behind A.

        Args:
            x: features (P, C, h, w).
            first: what A makes of them (P, D, h, w).
            by: int64 (P,) classes whose planes erase.
            upto: the last classifier to run.
        """
        hidden, before = {"a": first}, "a"
        for name, delta in zip(list(self.recipe)[1:], self.deltas, strict=True):
            if name > upto:
                break
            if self.erase:
                with torch.no_grad():
                    plane = self._branch(before).planes(hidden[before], by[:, None])
                x = erase(x, plane, delta)
            hidden[name], before = self._branch(name)(x), name
        return hidden

    def _erasing(self, state: Mapping[str, Tensor], classes: Tensor) -> Tensor:
        """The classes that erase for the maps of ``classes`` (N, M): (N, M), or (N, 1) where all maps share one."""
        nothing_to_erase = not self.erase or self.fused == ["a"]
        if nothing_to_erase or self.erase_at_test == "predicted":
            return state["predicted"][:, None]
        if self.erase_at_test == "label" and "labels" in state:
            return state["labels"][:, None]
        return classes


def _check_chain(recipe: str, deltas: Sequence[float], num_classes: int) -> None:
    if not recipe or set(recipe) - set("pn") or recipe[0] != "p" or len(recipe) > len(string.ascii_lowercase):
        raise InputError(
            "recipe: expected a letter for each classifier, p (ordinary) or n (adversarial), the first p, at most "
            f"{len(string.ascii_lowercase)}, such as 'pp' for ACoL; got {recipe!r}"
        )
    if len(deltas) != len(recipe) - 1:
        raise InputError(
            f"deltas: recipe {recipe!r} has {len(recipe) - 1} erasing steps and needs one delta for each, "
            f"got {len(deltas)}: {list(deltas)}"
        )
    if wrong := [delta for delta in deltas if not 0 < delta < 1]:
        raise InputError(f"deltas: expected thresholds between 0 and 1, both excluded, got {wrong[0]}")
    if "n" in recipe and num_classes < 2:
        raise InputError(f"recipe {recipe!r}: an adversarial classifier needs at least 2 classes, got {num_classes}")
