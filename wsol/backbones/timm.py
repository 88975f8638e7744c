"""Any model of the timm library that gives feature maps, as a backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from timm.layers import Format
from torch import Tensor, nn

from wsol.backbones.base import Backbone, Step
from wsol.backbones.fixed_size import FixedSize
from wsol.backbones.weights import INTERPOLATIONS, choose_preprocessing, find_weights, load_strictly
from wsol.errors import InputError, near_matches
from wsol.types import Preprocessing

BUILD_ERRORS = (RuntimeError, AssertionError, AttributeError, TypeError, ValueError, KeyError, IndexError)


class Timm(Backbone):
    """A timm model made with ``features_only=True``.

    Points have the names timm gives its feature modules (``layer1`` ... ``layer4`` of a ResNet, ``stages.0`` ... of a
    ConvNeXt, ``blocks.9`` ... of a ViT); ``early``, ``mid`` and ``late`` are the last three. Final norms and
    convolutions behind the last feature module are not part of it. Weights from a file have a classifier for
    ``pretrained_classifier`` if the whole model's reads the mean of the last features (ResNets do, ConvNeXts do not).

    Args:
        name: timm's name of the model, with or without a tag (``convnext_tiny``, ``resnet50.a1_in1k``).
        output_stride: for models that can change it (ResNet, ConvNeXt, EfficientNet, RegNet ...); None leaves it.
        weights: ``pretrained`` (timm's, downloaded and cached), path to a state dict of the whole model, or None.
        options: further arguments of the model (``dynamic_img_size: true``).
        preprocessing: entries that replace those of the model's pretrained config.

    Raises:
        InputError: an unknown name, a model without feature maps, an output stride or an option it does not know, or
            weights that do not fit.

    Example:
        >>> list(Timm("resnet10t").points)
        ['act1', 'layer1', 'layer2', 'layer3', 'layer4', 'last']
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
        whole = None if given is None else _whole(name, arguments, given, str(weights))
        self.network = _build(name, arguments, weights, whole)
        info: Any = self.network.feature_info
        found = zip(_unique(info.module_name()), info.channels(), info.reduction(), strict=True)
        steps = [Step(point, (), channels, stride) for point, channels, stride in found]
        if output_stride not in (None, steps[-1].stride):
            raise InputError(f"output_stride {output_stride} is not possible for timm's {name}: {steps[-1].stride} is")
        last = [step.name for step in steps[-3:]]
        self.declare(steps, aliases=[last[0]] * (3 - len(last)) + last)
        self.input_size = FixedSize(name, self.network, arguments, key="backbone.options")
        expected = _preprocessing(self.network, name)
        if self.input_size.fixed:
            expected = dataclasses.replace(expected, size=self.input_size.built[1])
        self.preprocessing = choose_preprocessing(expected, preprocessing)
        if given is not None and whole is not None and (classifier := self._classifier(whole)) is not None:
            layer = {key: given.get(f"{classifier}.{key}") for key in ("weight", "bias")}
            self.classifier_state = {key: value for key, value in layer.items() if value is not None}

    def forward(
        self, images: Tensor, taps: Sequence[str] = (), edits: Mapping[str, nn.Module] | None = None
    ) -> dict[str, Tensor]:
        """Run the network; see `Backbone.forward`.

        Raises:
            InputError: also if a point of the model is no feature map of the declared width, or cannot be edited.
        """
        self._check(images)
        wanted = {name: self.resolve(name) for name in taps or ("last",)}
        replaced = self.place(edits or {})
        at_end = replaced.pop(self.resolve("last"), nn.Identity())
        with self._hooked(replaced):
            maps = self.network(images)
        features = {step.name: self._as_map(x, step) for step, x in zip(self._steps, maps, strict=True)}
        last = self.resolve("last")
        features[last] = at_end(features[last])
        return {name: features[step] for name, step in wanted.items()}

    def check_size(self, width: int, height: int) -> None:
        """Refuse images of a size that the model was not built for; see `Backbone.check_size`."""
        super().check_size(width, height)
        self.input_size.check(self.network, width, height)

    def unused_parameters(self, taps: Sequence[str] = (), edits: Iterable[str] = ()) -> dict[str, nn.Parameter]:
        """Return the parameters that get no gradient, found by one pass; see `Backbone.unused_parameters`."""
        named = {name: p for name, p in self.named_parameters() if p.requires_grad}
        mode, side = self.training, self.preprocessing.size
        device = next(self.parameters()).device
        with torch.enable_grad():
            features = self.eval()(torch.zeros(1, 3, side, side, device=device), taps)
            total = sum(value.float().sum() for value in features.values())
            found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
        self.train(mode)
        return {name: p for (name, p), gradient in zip(named.items(), found, strict=True) if gradient is None}

    @torch.no_grad()
    def _classifier(self, whole: nn.Module) -> str | None:
        """Name of the linear layer that makes the whole model's scores of the mean of the last features; else None."""
        name = next(iter(_heads(whole)), "")
        layer = dict(whole.named_modules()).get(name)
        if not isinstance(layer, nn.Linear) or layer.in_features != self.points["last"].channels:
            return None
        side = self.preprocessing.size
        images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        mode = self.training
        features = self.eval()(images)["last"]
        self.train(mode)
        close = torch.allclose(layer(features.mean((2, 3))), whole.eval()(images), rtol=1e-3, atol=1e-4)
        return name if close else None

    @contextmanager
    def _hooked(self, edits: Mapping[str, nn.Module]) -> Iterator[None]:
        """Have the edits applied inside the network for a while; before timm's own hooks, which collect features."""
        handles = []
        try:
            for step in self._steps:
                if step.name in edits:
                    module = self._module(step.name)
                    handles.append(module.register_forward_hook(self._hook(edits[step.name], step), prepend=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, edit: nn.Module, step: Step) -> Callable[[nn.Module, Any, Any], Tensor]:
        def run(_module: nn.Module, _inputs: Any, x: Any) -> Tensor:
            edited = edit(self._as_map(x, step))
            result: Tensor = edited.permute(0, 2, 3, 1) if self._channels_at_end else edited
            return result

        return run

    def _module(self, name: str) -> nn.Module:
        """Return the module behind a point; timm's wrappers may have joined the first two parts of its path."""
        known = dict(self.network.named_modules())
        for path in (name, name.replace(".", "_", 1)):
            if path in known:
                found: nn.Module = known[path]
                return found
        raise InputError(f"timm's {self.name} cannot be edited at {name!r}: edit 'last', or choose another model")

    @property
    def _channels_at_end(self) -> bool:
        return getattr(self.network, "output_fmt", None) == Format.NHWC

    def _as_map(self, x: Any, step: Step) -> Tensor:
        """Return features as (N, C, h, w).

        Raises:
            InputError: they are no map of the declared width.
        """
        if isinstance(x, Tensor) and x.ndim == 4:
            x = x.permute(0, 3, 1, 2) if self._channels_at_end else x
            if x.shape[1] == step.channels:
                found: Tensor = x
                return found
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise InputError(
            f"timm's {self.name} has no feature map at {step.name!r}: expected (N, {step.channels}, h, w), "
            f"got {shape}. Use another point or another model"
        )


def _build(name: str, arguments: dict[str, Any], weights: str | None, whole: nn.Module | None) -> nn.Module:
    """Make the feature network, with weights: those of the whole model, if it is given."""
    source: dict[str, Any] = {"pretrained": weights is not None}
    try:
        if whole is not None:
            source["pretrained_cfg_overlay"] = {"state_dict": whole.state_dict()}
        return timm.create_model(name, features_only=True, **source, **arguments)
    except OSError as error:
        raise InputError(
            f"weights of timm's {name}: download failed ({error}). Fetch them by other means and give the path, or null"
        ) from error
    except InputError:
        raise
    except BUILD_ERRORS as error:
        raise _refusal(name, arguments, error) from error


def _refusal(name: str, arguments: dict[str, Any], error: Exception) -> InputError:
    return InputError(
        f"timm cannot make a feature network of {name} with {arguments or 'its defaults'}: "
        f"{error or 'not supported'}. Models without feature maps or without a choice of output_stride refuse so; "
        "try output_stride=null or another model"
    )


def _whole(name: str, arguments: dict[str, Any], state: Mapping[str, Tensor], path: str) -> nn.Module:
    """Make the whole model with a state dict, every key of which must fit but the classifier's."""
    try:
        whole = timm.create_model(name, **arguments)
    except BUILD_ERRORS as error:
        raise _refusal(name, arguments, error) from error
    prefixes = tuple(f"{head}." for head in _heads(whole))
    own = {key: value for key, value in whole.state_dict().items() if key.startswith(prefixes)}
    trunk = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    load_strictly(whole, trunk | own, path)
    return whole


def _heads(whole: nn.Module) -> list[str]:
    """Names of the classifiers."""
    config: Any = whole.pretrained_cfg
    heads = config.get("classifier") or ()
    return [heads] if isinstance(heads, str) else list(heads)


def _preprocessing(network: nn.Module, name: str) -> Preprocessing:
    expected = resolve_model_data_config(network)
    channels, height, _ = expected["input_size"]
    if channels != 3:
        raise InputError(f"timm's {name} takes images of {channels} channels: choose a model for RGB")
    known = expected["interpolation"] in INTERPOLATIONS
    return Preprocessing(
        mean=tuple(expected["mean"]),
        std=tuple(expected["std"]),
        size=height,
        interpolation=expected["interpolation"] if known else "bicubic",
    )


def _unique(names: Sequence[str]) -> list[str]:
    """Tell apart features that timm takes from one module (CoaT, CrossViT)."""
    return [f"{name}:{index}" if names.count(name) > 1 else name for index, name in enumerate(names)]
