"""Any timm model that returns feature maps, as a backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from wsol.backbones.base import Backbone, Stage
from wsol.backbones.fixed_size import FixedSize
from wsol.backbones.timm_structure import Structure, as_map, channels_at_end, classifier_names, examine
from wsol.backbones.weights import INTERPOLATIONS, choose_preprocessing, find_weights, load_strictly
from wsol.errors import InputError, near_matches
from wsol.types import Preprocessing

BUILD_ERRORS = (RuntimeError, AssertionError, AttributeError, TypeError, ValueError, KeyError, IndexError)
FINAL = "final"
"""Name of the point after the layers that follow the last feature module."""


class Timm(Backbone):
    """A timm model up to the features that its classifier pools.

    Points have timm's names of its feature modules (``layer1`` ... ``layer4`` of a ResNet, ``stages.0`` ... of a
    ConvNeXt, ``blocks.9`` ... of a ViT); ``early``, ``mid`` and ``late`` are the last three. ``last`` is the result of
    timm's ``forward_features``, as a map: after the final convolution of an EfficientNet or the final norm of a Swin.
    If layers follow the last feature module, this point is also called ``final``.

    ``pretrained_classifier`` can use the model's classifier if it is linear on the mean of ``last``. This is tested on
    a random image when the backbone is made (see `wsol.backbones.timm_structure`), not assumed: it holds for ResNets,
    EfficientNets and Swins, but not for ConvNeXts (a norm after the pooling) or ViTs (a class token).

    Args:
        name: timm's name of the model, with or without a tag (``convnext_tiny``, ``resnet50.a1_in1k``).
        output_stride: for models that can change it (ResNet, ConvNeXt, EfficientNet, RegNet ...); None keeps the
            model's.
        weights: ``pretrained`` (timm's, downloaded and cached), path to a state dict of the whole model, or None.
        options: more arguments of the model (``dynamic_img_size: true``).
        preprocessing: entries that replace those of the model's pretrained config.

    Raises:
        InputError: an unknown name, a model without feature maps, an output stride or an option that it does not
            support, or weights that do not fit.

    Example:
        >>> list(Timm("resnet10t").points)
        ['act1', 'layer1', 'layer2', 'layer3', 'layer4', 'last']
        >>> backbone = Timm("lcnet_035")
        >>> backbone.no_classifier
        "conv_head (Conv2d) stands between the pooling and 'classifier'"
    """

    reads = tuple(
        f"options.{key}"
        for key in (
            "pretrained",
            "pretrained_cfg",
            "pretrained_cfg_overlay",
            "pretrained_strict",
            "pretrained_filter_fn",
            "pretrained_model_args",
            "checkpoint_path",
            "cache_dir",
            "model_cfg",
            "feature_cfg",
            "kwargs_filter",
        )
    )

    pretrained = "pretrained"
    reruns = False

    def __init__(
        self,
        name: str,
        output_stride: int | None = None,
        weights: str | None = None,
        options: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            close = get_close_matches(name, timm.list_models(), n=5, cutoff=0.4)
            raise InputError(f"timm has no model {name!r}: {near_matches(name, close)} (all: timm.list_models())")
        arguments = dict(options or {})
        if output_stride is not None:
            arguments["output_stride"] = output_stride
        self.name = name
        given = None if weights in (None, "pretrained") else find_weights(weights, None).state
        features = _make(name, {**arguments, "features_only": True})
        self.network = _make(name, {**arguments, "pretrained": weights == "pretrained"})
        if given is not None:
            _load(self.network, given, str(weights))
        self.input_size = FixedSize(name, self.network, arguments, key="backbone.options")
        base = _preprocessing(self.network, name, arguments.get("img_size"))
        if self.input_size.fixed:
            base = dataclasses.replace(base, size=self.input_size.built[1])
        self.preprocessing = choose_preprocessing(base, preprocessing)
        points = self._feature_points(features)
        if output_stride not in (None, points[-1].stride):
            raise InputError(f"output_stride {output_stride} is not possible for timm's {name}: {points[-1].stride} is")
        found = self._examine(points, base.size)
        self.no_classifier = found.refusal
        if weights is not None and found.classifier is not None:
            self.classifier_state = _classifier_state(self.network, found.classifier, given)
        elif weights is None and not found.refusal:
            self.no_classifier = "its weights are random: give weights"
        for child in found.unused:
            setattr(self.network, child, nn.Identity())

    def forward(
        self, images: Tensor, taps: Sequence[str] = (), edits: Mapping[str, nn.Module] | None = None
    ) -> dict[str, Tensor]:
        """Run the network; see `Backbone.forward`.

        Raises:
            InputError: also if a point of the model is not a feature map of the declared width, or cannot be edited.
        """
        self._check(images)
        wanted = {name: self.resolve(name) for name in taps or ("last",)}
        replaced = self.place(edits or {})
        last = self.resolve("last")
        at_end = replaced.pop(last, nn.Identity())
        features = self._run(images, set(wanted.values()), replaced)
        features[last] = at_end(features[last])
        return {name: features[step] for name, step in wanted.items()}

    def check_size(self, width: int, height: int) -> None:
        """Check that the model accepts images of a size; see `Backbone.check_size`."""
        super().check_size(width, height)
        self.input_size.check(self.network, width, height)

    def unused_parameters(self, taps: Sequence[str] = (), edits: Iterable[str] = ()) -> dict[str, nn.Parameter]:
        """Return the parameters without a gradient, found by one forward pass; see `Backbone.unused_parameters`."""
        named = {name: p for name, p in self.named_parameters() if p.requires_grad}
        mode, side = self.training, self.preprocessing.size
        device = next(self.parameters()).device
        with torch.enable_grad():
            features = self.eval()(torch.zeros(1, 3, side, side, device=device), taps)
            total = sum(value.float().sum() for value in features.values())
            found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
        self.train(mode)
        return {name: p for (name, p), gradient in zip(named.items(), found, strict=True) if gradient is None}

    def _feature_points(self, features: nn.Module) -> list[Stage]:
        """Return the points of timm's feature network, and set whether hooks or ``forward_intermediates`` read them."""
        info: Any = features.feature_info
        found = zip(_unique(info.module_name()), info.channels(), info.reduction(), strict=True)
        points = [Stage(point, (), channels, stride) for point, channels, stride in found]
        layers = dict(self.network.named_modules())
        self._indices: list[int] | None = None
        if isinstance(features, FeatureGetterNet) or any(step.name not in layers for step in points):
            self._indices = list(getattr(features, "out_indices", None) or info.out_indices)
        return points

    def _examine(self, points: list[Stage], side: int) -> Structure:
        """Declare the points, with the classifier's input as ``last``; returns the structure found."""
        aliases = [step.name for step in points[-3:]]
        aliases = [aliases[0]] * (3 - len(aliases)) + aliases
        self._ends_at_features = False
        self.declare(points, aliases)
        mode = self.training
        found = examine(self.eval(), self.network, points[-1], side)
        self.train(mode)
        self._ends_at_features = found.final is not None
        if found.final is not None and not found.same:
            self.points.clear()
            self.declare([*points, Stage(FINAL, (), *found.final)], aliases)
        return found

    def _run(self, images: Tensor, wanted: set[str], edits: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Return the features of the requested steps and of the last one, by name."""
        last = self._steps[-1]
        maps: dict[str, Tensor] = {}
        inside = wanted if not self._ends_at_features else wanted - {last.name}
        if self._indices is not None and edits:
            raise InputError(f"timm's {self.name} cannot be edited at {next(iter(edits))!r}: edit 'last' instead")
        network: Any = self.network
        if self._indices is not None and (inside or not self._ends_at_features):
            final, found = network.forward_intermediates(images, indices=self._indices, output_fmt="NCHW")
            maps = dict(zip((step.name for step in self._steps), found, strict=False))
        else:
            with self._hooked(inside, edits) as maps:
                final = network.forward_features(images)
        if self._ends_at_features:
            maps[last.name] = as_map(final, self.network, images, last.stride)
        return {step.name: self._checked(maps[step.name], step) for step in self._steps if step.name in maps}

    @contextmanager
    def _hooked(self, wanted: Iterable[str], edits: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
        """Apply the edits inside the network for a while; yields the dict that is filled with the wanted maps."""
        maps: dict[str, Tensor] = {}
        handles = []
        try:
            for step in self._steps:
                if step.name in wanted or step.name in edits or self._is_bare_end(step):
                    hook = self._hook(step, edits.get(step.name), maps)
                    handles.append(self.network.get_submodule(step.name).register_forward_hook(hook))
            yield maps
        finally:
            for handle in handles:
                handle.remove()

    def _is_bare_end(self, step: Stage) -> bool:
        return not self._ends_at_features and step is self._steps[-1]

    def _hook(
        self, step: Stage, edit: nn.Module | None, maps: dict[str, Tensor]
    ) -> Callable[[nn.Module, Any, Any], Tensor | None]:
        at_end = channels_at_end(self.network)

        def run(_module: nn.Module, _inputs: Any, out: Any) -> Tensor | None:
            """Store a module's output, after the edit, if any, which also replaces it in the network."""
            x = out.permute(0, 3, 1, 2) if at_end and isinstance(out, Tensor) and out.ndim == 4 else out
            maps[step.name] = x if edit is None else edit(self._checked(x, step))
            if edit is None:
                return None
            return maps[step.name].permute(0, 2, 3, 1) if at_end else maps[step.name]

        return run

    def _checked(self, x: Any, step: Stage) -> Tensor:
        """Return features (N, C, h, w).

        Raises:
            InputError: they are not a map of the declared width.
        """
        if isinstance(x, Tensor) and x.ndim == 4 and x.shape[1] == step.channels:
            return x
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise InputError(
            f"timm's {self.name} has no feature map at {step.name!r}: expected (N, {step.channels}, h, w), "
            f"got {shape}. Use another point or another model"
        )


def _make(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Make a timm model.

    Raises:
        InputError: it cannot be made with these arguments, or its weights cannot be loaded.
    """
    try:
        network: nn.Module = timm.create_model(name, **arguments)
        return network
    except OSError as error:
        raise InputError(
            f"weights of timm's {name}: download failed ({error}). Download them otherwise and set the path, or null"
        ) from error
    except InputError:
        raise
    except BUILD_ERRORS as error:
        own = {key: value for key, value in arguments.items() if key not in ("features_only", "pretrained")}
        raise InputError(
            f"timm cannot make a feature network of {name} with {own or 'its defaults'}: "
            f"{error or 'not supported'}. Models without feature maps or a choice of output_stride can't be used; "
            "try output_stride=null or another model"
        ) from error


def _load(network: nn.Module, state: Mapping[str, Tensor], path: str) -> None:
    """Load a state dict; every key except the classifier's must fit."""
    prefixes = tuple(f"{name}." for name in classifier_names(network))
    own = {key: value for key, value in network.state_dict().items() if key.startswith(prefixes)}
    trunk = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    load_strictly(network, trunk | own, path)


def _classifier_state(network: nn.Module, name: str, given: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Return the classifier's ``weight`` (K, C) and ``bias`` (K,); a file's own, as its K may differ from timm's."""
    state = network.state_dict() if given is None else given
    weight = state.get(f"{name}.weight")
    if weight is None:
        return {}
    bias = state.get(f"{name}.bias")
    return {"weight": weight.flatten(1), "bias": weight.new_zeros(len(weight)) if bias is None else bias}


def _preprocessing(network: nn.Module, name: str, img_size: Any) -> Preprocessing:
    expected = resolve_model_data_config(network)
    channels, height, _ = expected["input_size"]
    if channels != 3:
        raise InputError(f"timm's {name} takes images of {channels} channels: choose a model for RGB")
    known = expected["interpolation"] in INTERPOLATIONS
    return Preprocessing(
        mean=tuple(expected["mean"]),
        std=tuple(expected["std"]),
        size=img_size if isinstance(img_size, int) else height,
        interpolation=expected["interpolation"] if known else "bicubic",
    )


def _unique(names: Sequence[str]) -> list[str]:
    """Make names unique where timm takes several features from one module (CoaT, CrossViT)."""
    return [f"{name}:{index}" if names.count(name) > 1 else name for index, name in enumerate(names)]
