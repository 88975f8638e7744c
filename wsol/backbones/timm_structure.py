"""Find the input of a timm model's classifier, by running the model once on a random image.

Class activation maps of a pretrained classifier need no training if the classifier is linear on the mean of the last
features. With f_k the k-th channel of ``forward_features`` and w, b the classifier's weights::

    logit_c = sum_k w_k^c mean(f_k) + b_c = mean(M_c) + b_c,    M_c(x, y) = sum_k w_k^c f_k(x, y)

`examine` tests this instead of assuming it from the model's name, and returns the reason if it does not hold.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from timm.layers import Format
from torch import Tensor, nn

from wsol.backbones.base import Backbone, Stage
from wsol.errors import InputError


class Structure(NamedTuple):
    """The structure found in a model."""

    final: tuple[int, int] | None
    """Channels and stride of the result of ``forward_features``; None if that is not a map."""
    same: bool
    """Whether that map is the last feature point itself."""
    classifier: str | None
    """Path of the classifier, if it is linear on the mean of that map."""
    refusal: str
    """Why it is not linear on that mean; empty if it is."""
    unused: list[str]
    """Children of the model that do not run in ``forward_features``."""


@torch.no_grad()
def examine(backbone: Backbone, network: nn.Module, point: Stage, side: int) -> Structure:
    """Run a model in evaluation mode on one image.

    Args:
        backbone: the backbone that reads the feature point.
        network: the whole timm model.
        point: the last feature point.
        side: side of the image, pixels.
    """
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    feature = backbone(images, taps=[point.name])[point.name]
    final, ran = _ran(network, network.forward_features, images)
    unused = [name for name, child in network.named_children() if not any(module in ran for module in child.modules())]
    try:
        last = as_map(final, network, images, point.stride)
    except InputError:
        return Structure(None, False, None, "forward_features does not return a map (N, C, h, w)", unused)
    same = last.shape == feature.shape and torch.equal(last, feature)
    stride = point.stride * round(feature.shape[-1] / last.shape[-1])
    classifier, refusal = _classifier(network, final, last)
    return Structure((last.shape[1], stride), same, classifier, refusal, unused)


def as_map(final: Any, network: nn.Module, images: Tensor, stride: int) -> Tensor:
    """Return the result of ``forward_features`` as (N, C, h, w).

    Tokens (N, L, C) of a regular grid are reshaped to a map; tokens before them, such as the class token, are left out.

    Raises:
        InputError: it is not a map.
    """
    if isinstance(final, Tensor) and final.ndim == 4:
        return final.permute(0, 3, 1, 2) if channels_at_end(network) else final
    if isinstance(final, Tensor) and final.ndim == 3:
        before: Any = getattr(network, "num_prefix_tokens", 0)
        tokens: Tensor = final[:, before:]
        h, w = (length // stride for length in images.shape[-2:])
        if tokens.shape[1] == h * w:
            return tokens.transpose(1, 2).reshape(len(tokens), -1, h, w)
    shape = tuple(final.shape) if isinstance(final, Tensor) else type(final).__name__
    raise InputError(f"{type(network).__name__}: expected a map (N, C, h, w) of the last features, got {shape}")


def channels_at_end(network: nn.Module) -> bool:
    """Return whether the model's maps are (N, h, w, C)."""
    return getattr(network, "output_fmt", None) == Format.NHWC


def classifier_names(network: nn.Module) -> list[str]:
    """Return the paths of the model's classifiers."""
    config: Any = network.pretrained_cfg
    names = config.get("classifier") or ()
    return [names] if isinstance(names, str) else list(names)


def _classifier(network: nn.Module, final: Any, last: Tensor) -> tuple[str | None, str]:
    """Return the classifier's path, or None and why it does not make class activation maps of ``last``."""
    names = classifier_names(network)
    if len(names) != 1:
        return None, f"it has {len(names)} classifiers ({', '.join(names)})" if names else "it has no classifier"
    name = names[0]
    layer = dict(network.named_modules()).get(name)
    one_by_one = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)
    if not isinstance(layer, nn.Linear) and not one_by_one:
        return None, f"its classifier {name!r} is not a linear layer but {type(layer).__name__}"
    assert layer is not None
    if last.shape[-2] * last.shape[-1] < 2:
        return None, f"its last features have one cell at {last.shape[1]} channels"
    seen: list[tuple[Tensor, Tensor]] = []
    handle = layer.register_forward_hook(lambda _module, inputs, out: seen.append((inputs[0], out)))
    try:
        logits, ran = _ran(network, network.forward_head, final)
    finally:
        handle.remove()
    between = [(path, module) for path, module in _leaves(network, ran) if path != name]
    if between:
        layers = ", ".join(f"{path} ({type(module).__name__})" for path, module in between)
        return None, f"{layers} {'stands' if len(between) == 1 else 'stand'} between the pooling and {name!r}"
    if len(seen) != 1 or not _close(seen[0][1].flatten(1), logits):
        return None, f"its scores are not those of {name!r} alone"
    if not _close(seen[0][0].flatten(1), last.mean((2, 3))):
        return None, f"{name!r} reads a class token or another pooling instead of the mean of the last features"
    return name, ""


def _close(found: Tensor, expected: Tensor) -> bool:
    scale = float(expected.abs().max())
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * scale)


def _leaves(network: nn.Module, ran: set[nn.Module]) -> list[tuple[str, nn.Module]]:
    """Return the modules that ran and have parameters of their own."""
    found = [(path, module) for path, module in network.named_modules() if module in ran]
    return [(path, module) for path, module in found if any(True for _ in module.parameters(recurse=False))]


def _ran(network: nn.Module, run: Any, given: Any) -> tuple[Any, set[nn.Module]]:
    """Return the output of a part of the model, and the modules that ran."""
    ran: set[nn.Module] = set()
    with ExitStack() as stack:
        for module in network.modules():
            handle = module.register_forward_hook(lambda module, _inputs, _out: ran.add(module))
            stack.callback(handle.remove)
        result = run(given)
    return result, ran
