"""The base of all backbones: named steps, taps, edits, strides, weights.

A backbone is an ordered list of steps. A step runs some of the network's own submodules, named by their paths, so
parameters keep torchvision's names. Under the step's name, its output can be read (a tap) or replaced (an edit).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from wsol.backbones.weights import choose_preprocessing, find_weights, load_strictly
from wsol.errors import InputError, unknown
from wsol.types import FeatureInfo, Preprocessing


class NoRerunError(InputError):
    """A head needs to rerun stages of a backbone that can only run once, from the images on."""

    def __init__(self, network: str) -> None:
        super().__init__(f"{network} cannot rerun the stages after a point on other features, which the head needs")


class Stage(NamedTuple):
    """One named part of the forward pass."""

    name: str
    """Name of the point after this stage."""
    modules: tuple[str, ...]
    """Paths of the submodules it runs, in order."""
    channels: int
    """Number of channels of its output."""
    stride: int
    """Input pixels per cell of its output."""


class Backbone(nn.Module):
    """Base of all backbones. A subclass creates its submodules, then calls `declare` and `load`.

    Example:
        >>> import torch
        >>> from wsol.backbones.tiny import Tiny
        >>> network = Tiny()
        >>> features = network(torch.zeros(2, 3, 64, 64), taps=["conv2", "last"])
        >>> {name: tuple(value.shape) for name, value in features.items()}
        {'conv2': (2, 32, 32, 32), 'last': (2, 64, 16, 16)}
    """

    min_size: int = 1
    """Smallest allowed side of an input, pixels."""
    multiple: int = 1
    """The sides of an input must be multiples of this, pixels."""
    read_only: tuple[str, ...] = ()
    """Points that can be tapped but not edited."""
    dropped: tuple[str, ...] = ()
    """Name prefixes of the weights that the surgery removes."""
    added: tuple[str, ...] = ()
    """Name prefixes of the layers that the surgery adds: they are not pretrained and learn at the head's rate."""
    optional: tuple[str, ...] = ()
    """Names of buffers that this project's weights have and torchvision's lack."""
    reads: tuple[str, ...] = ()
    """Arguments besides ``weights`` that read or download files, nested ones with dots. They must be null in the config
    of a file from elsewhere."""
    pretrained: str | None = None
    """Value of ``weights`` that loads the library's ImageNet weights; None if there are none."""
    classifier_name: str | None = None
    """Name of the layer in the weights that classifies the last features: linear on their spatial mean, or a 1x1
    convolution before the pooling; None if there is none."""
    reruns: bool = True
    """Whether `behind` can run the stages after a point on other features."""
    rectified: bool = False
    """Whether ReLU follows that layer before the pooling, as in NIN and SqueezeNet (``method=cam_1x1``)."""
    ALIASES: ClassVar[tuple[str, ...]] = ("early", "mid", "late")

    def __init__(self) -> None:
        super().__init__()
        self.points: dict[str, FeatureInfo] = {}
        """Points by name, in the order of the forward pass; ``last`` names the final features."""
        self.aliases: dict[str, str] = {}
        """``early``, ``mid`` and ``late``: names that every backbone has, and the points they refer to."""
        self.preprocessing = Preprocessing()
        """The input that the network expects."""
        self.classifier_state: dict[str, Tensor] = {}
        """``weight`` (K, C) and ``bias`` (K,) of the pretrained classifier, where the weights have one."""
        self.no_classifier = "its weights are random, or the surgery removed it"
        """Why there is no `classifier_state`, for messages."""
        self._steps: list[Stage] = []
        self._same: dict[str, str] = {}

    def declare(self, steps: Sequence[Stage], aliases: Sequence[str], also: Mapping[str, str] | None = None) -> None:
        """Declare the forward pass.

        Args:
            steps: the steps, in order.
            aliases: the points that ``early``, ``mid`` and ``late`` refer to.
            also: additional names of a step's point (``layer3`` for ``layer3.5``).
        """
        self._steps = list(steps)
        self._same = {**(also or {}), "last": steps[-1].name}
        for step in steps:
            names = [step.name, *(name for name, same in self._same.items() if same == step.name)]
            self.points.update(dict.fromkeys(names, FeatureInfo(step.channels, step.stride)))
        self.aliases = dict(zip(self.ALIASES, aliases, strict=True))

    def load(self, weights: str | None, architecture: str | None, preprocessing: Mapping[str, Any] | None) -> bool:
        """Initialise the network randomly (`initialise`) or with pretrained weights, and set `preprocessing`.

        Args:
            weights: see `wsol.backbones.weights.find_weights`; None for random weights.
            architecture: torchvision's name of the network; None if it has none.
            preprocessing: entries that replace those of the weights; None entries are ignored.

        Returns:
            True if the weights are torchvision's own.
        """
        if weights is None:
            self.initialise()
            self.preprocessing = choose_preprocessing(self.preprocessing, preprocessing)
            return False
        found = find_weights(weights, architecture)
        load_strictly(self, found.state, found.source, self.dropped, self.optional)
        if self.classifier_name:
            layer = {key: found.state.get(f"{self.classifier_name}.{key}") for key in ("weight", "bias")}
            self.classifier_state = {
                key: value.flatten(1) if value.ndim > 2 else value for key, value in layer.items() if value is not None
            }
        self.preprocessing = choose_preprocessing(found.preprocessing or self.preprocessing, preprocessing)
        return found.preprocessing is not None

    def initialise(self) -> None:
        """Initialise convolutions as He et al. 2015 (fan out, as torchvision's ResNet and VGG) and norms with 1, 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def named_points(self) -> dict[str, FeatureInfo]:
        """All points by all their names: `points` and `aliases`."""
        return self.points | {alias: self.points[name] for alias, name in self.aliases.items()}

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay, as parts of the network list them (timm's models do)."""
        names: set[str] = set()
        for path, module in self.named_modules():
            if module is not self and callable(listed := getattr(module, "no_weight_decay", None)):
                names |= {f"{path}.{name}" if path else name for name in listed()}
        return names

    def resolve(self, name: str) -> str:
        """Return the step for a point's name or alias.

        Raises:
            InputError: no such point; the message lists the points.
        """
        target = self.aliases.get(name, name)
        if target not in self.points:
            raise unknown(f"point of {type(self).__name__}", name, self.named_points)
        return self._same.get(target, target)

    def prepare(self, images: Tensor) -> Tensor:
        """Convert the images to the input of the first layer; float (N, 3, H, W) to the same shape."""
        return images

    def forward(
        self, images: Tensor, taps: Sequence[str] = (), edits: Mapping[str, nn.Module] | None = None
    ) -> dict[str, Tensor]:
        """Run the network as far as necessary: up to the last point that is tapped or edited.

        Args:
            images: float (N, 3, H, W), normalised according to `preprocessing`.
            taps: names of the points to return; if empty, ``last``.
            edits: modules by point, from (N, C, h, w) to the same shape; each replaces the features at its point.

        Returns:
            The features (N, C, H/s, W/s) of each tap under the requested name, after the edit there.

        Raises:
            InputError: unknown points, two edits at one point, or images of the wrong shape or too small.
        """
        self._check(images)
        wanted = {name: self.resolve(name) for name in taps or ("last",)}
        replaced = self.place(edits or {})
        x = self.prepare(images)
        seen = {}
        for step in self._steps[: self._needed(wanted.values(), replaced)]:
            for path in step.modules:
                x = self.get_submodule(path)(x)
            if step.name in replaced:
                x = replaced[step.name](x)
            if step.name in wanted.values():
                seen[step.name] = x
        return {name: seen[step] for name, step in wanted.items()}

    def check_rerun(self, point: str) -> None:
        """Refuse a point after which no stages can be run on other features.

        Raises:
            InputError: the network is not a plain sequence of stages, or the point is the last one or unknown.
        """
        if not self.reruns:
            raise NoRerunError(type(self).__name__)
        if self.resolve(point) == self.resolve("last"):
            others = [name for name in self.named_points if self.resolve(name) != self.resolve("last")]
            raise InputError(
                f"no stage of {type(self).__name__} comes after {point!r}, so none can be run again: choose another "
                f"point ({', '.join(others)})"
            )

    def behind(self, point: str, x: Tensor, edits: Mapping[str, nn.Module] | None = None) -> Tensor:
        """Run the stages after a point.

        Args:
            point: name of the point.
            x: features there, float (N, C, h, w).
            edits: modules by point, as in `forward`; those after the point are applied.

        Returns:
            The last features, as `forward` returns them for ``last``.

        Raises:
            InputError: see `check_rerun`.

        Example:
            >>> import torch
            >>> from wsol.backbones.tiny import Tiny
            >>> network = Tiny().eval()
            >>> features = network(torch.randn(1, 3, 64, 64), taps=["conv3", "last"])
            >>> torch.equal(network.behind("conv3", features["conv3"]), features["last"])
            True
        """
        self.check_rerun(point)
        replaced = self.place(edits or {})
        for step in self.steps_behind(point):
            for path in step.modules:
                x = self.get_submodule(path)(x)
            if step.name in replaced:
                x = replaced[step.name](x)
        return x

    def steps_behind(self, point: str) -> list[Stage]:
        """Return the stages after a point, in order."""
        names = [step.name for step in self._steps]
        return self._steps[names.index(self.resolve(point)) + 1 :]

    def unused_parameters(self, taps: Sequence[str] = (), edits: Iterable[str] = ()) -> dict[str, nn.Parameter]:
        """Return the parameters, by name, that do not affect the features at ``taps`` and so get no gradient.

        Args:
            taps: see `forward`.
            edits: names of the points with an edit.
        """
        run = self._needed([self.resolve(name) for name in taps or ("last",)], [self.resolve(name) for name in edits])
        paths = [f"{path}." for step in self._steps[run:] for path in step.modules]
        return {name: p for name, p in self.named_parameters() if name.startswith(tuple(paths))}

    def _needed(self, taps: Iterable[str], edits: Iterable[str]) -> int:
        """Return how many steps must run for steps of these names."""
        order = [step.name for step in self._steps]
        return 1 + max(order.index(name) for name in (*taps, *edits))

    def place(self, edits: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
        """Return the edits by step.

        Raises:
            InputError: an unknown point, a read-only point, or two edits at one point.
        """
        steps = {name: self.resolve(name) for name in edits}
        for name, step in steps.items():
            if step in self.read_only:
                raise InputError(
                    f"an edit cannot be placed at {name!r} of {type(self).__name__}, which is read-only. Points for "
                    f"edits: {', '.join(point for point in self.named_points if point not in self.read_only)}"
                )
            if same := [other for other in steps if other != name and steps[other] == step]:
                raise InputError(f"edits {name!r} and {same[0]!r} are at the same point {step!r}: keep one of them")
        return {steps[name]: edit for name, edit in edits.items()}

    def _check(self, images: Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise InputError(f"expected float images (N, 3, H, W), got {images.dtype} {tuple(images.shape)}")
        self.check_size(images.shape[3], images.shape[2])

    def check_size(self, width: int, height: int) -> None:
        """Check that the network accepts images of a size.

        Raises:
            InputError: a side is too small, or not a multiple of `multiple`.
        """
        if min(width, height) < self.min_size:
            raise InputError(
                f"{type(self).__name__} needs images of at least {self.min_size} pixels a side, got {width}x{height}: "
                "choose a larger input or another backbone"
            )
        if odd := [side for side in (width, height) if side % self.multiple]:
            below = odd[0] // self.multiple * self.multiple
            raise InputError(
                f"{type(self).__name__} needs images whose sides are multiples of {self.multiple} pixels, the side of "
                f"its patches, got {width}x{height}: choose image_size={below + self.multiple} or {below}"
            )


def lower_strides(strides: Sequence[int], output_stride: int | None, fixed: int, network: str) -> list[int]:
    """Set the last strides to 1 so that their product is the output stride.

    Args:
        strides: strides of the layers that shrink the map, in order.
        output_stride: input pixels per cell of the final map; None leaves the network as it is.
        fixed: how many of the first strides stay unchanged.
        network: name for messages.

    Example:
        >>> lower_strides([4, 2, 2, 2], 8, fixed=1, network="ResNet")
        [4, 2, 1, 1]

    Raises:
        InputError: no such output stride; the message lists the possible ones.
    """
    if output_stride is None:
        return list(strides)
    choices = {
        math.prod(strides[:kept]): list(strides[:kept]) + [1] * (len(strides) - kept)
        for kept in range(fixed, len(strides) + 1)
    }
    if output_stride not in choices:
        possible = ", ".join(map(str, choices))
        raise InputError(f"output_stride {output_stride} is not possible for {network}: expected one of {possible}")
    return choices[output_stride]


def delay_stride(strides: Sequence[int], as_it_is: bool, dilate: bool, network: str) -> list[int]:
    """Move the last stride above 1 to the last layer, and set those in between to 1.

    Args:
        strides: strides of the layers that shrink the map, in order, from `lower_strides`.
        as_it_is: whether no output stride was set; the last layer then counts as lowered.
        dilate: whether layers without stride are to be dilated.
        network: name for messages.

    Example:
        >>> delay_stride([4, 2, 2, 1], as_it_is=False, dilate=False, network="ResNet")
        [4, 2, 1, 2]

    Raises:
        InputError: not exactly the last layer is lowered, or ``dilate`` is set.
    """
    lowered = [*strides[:-1], 1] if as_it_is else list(strides)
    if dilate or lowered[-1] != 1 or lowered[-2] == 1:
        asked = "dilate=true" if dilate else f"strides {list(strides)}"
        raise InputError(
            f"late_stride of {network} moves the second last stride to the end, which {asked} leaves no room for: set "
            "output_stride=null and dilate=false, or late_stride=false"
        )
    return [*lowered[:-2], 1, lowered[-2]]


def dense_pool() -> nn.MaxPool2d:
    """Return the max-pool that replaces a strided one: 3x3, stride 1, padding 1, as in ACoL's VGG."""
    return nn.MaxPool2d(kernel_size=3, stride=1, padding=1)
