"""Find a layer of any network by name, and read its output."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from wsol.backbones.base import Backbone
from wsol.errors import InputError, unknown
from wsol.explain.base import Explainer, class_scores, gradients, scores

LAYOUTS = ("nchw", "nhwc", "tokens")

ATTENTION = (nn.Softmax, nn.Dropout)
"""Modules whose output may be attention matrices, which look like maps; skipping them loses no real map."""


class LayerExplainer(Explainer):
    """Base of the explainers that weight the features A of one layer: CAM and similar methods.

    Args:
        layer: path of a module (``layer4.1``, ``head.conv``), or, for a `wsol.models.localizer.Localizer`, the name of
            a point (``last``, ``layer3``). None for the last layer whose output is a map that the scores depend on.
        layout: layout of the layer's output: ``nchw``; ``nhwc`` (Swin); or ``tokens``, (N, L, C), whose last
            tokens are a square grid (ViT: the class token before them is ignored).
        chunk_size: see `Explainer`.

    Raises:
        InputError: an unknown layout; when called, an unknown layer; the message lists the layers.
    """

    def __init__(self, layer: str | None = None, layout: str = "nchw", chunk_size: int | None = None) -> None:
        super().__init__(chunk_size)
        if layout not in LAYOUTS:
            raise unknown("layout", layout, LAYOUTS)
        if layer is None and layout != "nchw":
            raise InputError(f"layout={layout}: name the layer, too; only layers of maps are found automatically")
        self.layer, self.layout = layer, layout
        self._found: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()

    def resolve_layer(self, model: nn.Module, images: Tensor) -> str:
        """Return the name of the layer to read; if none was given, it is searched once per network."""
        if self.layer is not None:
            return self.layer
        if model not in self._found:
            self._found[model] = last_map(model, images[:1])
        return self._found[model]

    def as_maps(self, x: Tensor) -> Tensor:
        """Return a layer's output, or its gradient, as (..., C, h, w).

        Raises:
            InputError: it does not have the layout.
        """
        if self.layout == "tokens" and x.ndim >= 3:
            side = int((x.shape[-2]) ** 0.5)
            result: Tensor = x[..., x.shape[-2] - side * side :, :].unflatten(-2, (side, side)).movedim(-1, -3)
            return result
        if self.layout == "tokens" or x.ndim < 4:
            raise InputError(
                f"layer {self.layer!r}: expected {self.layout}, got the shape {tuple(x.shape)}; choose another layer "
                f"or layout ({', '.join(LAYOUTS)})"
            )
        return x.movedim(-1, -3) if self.layout == "nhwc" else x


class GradientCam(LayerExplainer):
    """Base of those that weight the features by their gradient: one forward pass, and one backward pass per class."""

    def explain(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return (N, M, h, w); see `Explainer.explain`."""
        with captured(model, self.resolve_layer(model, images), leaf=True) as seen:
            asked = class_scores(scores(model, images), classes)
        features = only(seen, self.layer)
        grads = gradients(asked, features)
        return self.weight_features(self.as_maps(features.detach())[:, None], self.as_maps(grads))

    @abstractmethod
    def weight_features(self, features: Tensor, grads: Tensor) -> Tensor:
        """Return maps (N, M, h, w) from features (N, 1, C, h, w) and the scores' gradients there (N, M, C, h, w)."""


@contextmanager
def captured(model: nn.Module, layer: str, leaf: bool = False) -> Iterator[list[Tensor]]:
    """Collect the output of a layer within the block.

    Args:
        model: the network.
        layer: path of a module or name of a point.
        leaf: cut the graph there: the collected tensors are leaves, and the layers before them are not recorded.

    Yields:
        A list to which each run of the layer adds its output.

    Raises:
        InputError: no such layer.
    """
    seen: list[Tensor] = []

    def take(x: Tensor) -> Tensor:
        """Store the layer's output; return what the network continues with."""
        seen.append(x.detach().requires_grad_() if leaf else x)
        # The network continues with a copy, because later layers may work in place.
        return seen[-1].clone() if leaf else x

    with ExitStack() as stack:
        stack.enter_context(_placed(model, layer, take))
        yield seen


def only(seen: list[Tensor], layer: str | None) -> Tensor:
    """Return the last output of a layer.

    Raises:
        InputError: the layer did not run.
    """
    if not seen:
        raise InputError(f"layer {layer!r} does not run when images are classified; choose another")
    return seen[-1]


@contextmanager
def _placed(model: nn.Module, layer: str, take: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Apply ``take`` to a layer's output; at a point, as an edit after the edit that may be there."""
    backbone, edits = getattr(model, "backbone", None), getattr(model, "edits", None)
    if isinstance(backbone, Backbone) and isinstance(edits, nn.ModuleDict) and layer in backbone.named_points:
        step = backbone.resolve(layer)
        taken = next((key for key in edits if backbone.resolve(key.replace("/", ".")) == step), None)
        before = dict(edits)
        try:
            edits[taken or layer.replace(".", "/")] = _Edit(edits[taken] if taken else None, take)
            yield
        finally:
            edits.clear()
            edits.update(before)
        return
    modules = dict(model.named_modules())
    if not layer or layer not in modules:
        points = list(backbone.named_points) if isinstance(backbone, Backbone) else []
        raise unknown("layer", layer, [*points, *(name for name in modules if name)])
    handle = modules[layer].register_forward_hook(lambda _module, _inputs, out: take(_tensor(out, layer)))
    try:
        yield
    finally:
        handle.remove()


class _Edit(nn.Module):
    """An earlier edit, if any, followed by ``take``."""

    def __init__(self, before: nn.Module | None, take: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.before, self.take = before or nn.Identity(), take

    def forward(self, x: Tensor) -> Tensor:
        return self.take(self.before(x))


def _tensor(out: object, layer: str) -> Tensor:
    if not isinstance(out, Tensor):
        raise InputError(f"layer {layer!r} returns a {type(out).__name__}, no tensor; choose one inside or before it")
    return out


def last_map(model: nn.Module, images: Tensor) -> str:
    """Return the path of the last module whose output is a map (N, C, h, w) that the class scores depend on.

    Args:
        model: the network, in evaluation mode.
        images: float (N, 3, H, W); one is enough.

    Raises:
        InputError: there is none near the scores, as in a ViT: layer and layout must be given.
    """
    found: list[tuple[str, Tensor, int]] = []
    weighted = 0

    def note(name: str, has_weights: bool) -> Callable[..., None]:
        """Return a hook that stores a module's output if it is a map, with the number of layers with weights so far."""

        def hook(_module: nn.Module, _inputs: object, out: object) -> None:
            """Count the module's weights and store its output if it is a map."""
            nonlocal weighted
            weighted += has_weights
            if isinstance(out, Tensor) and _is_map(out, images):
                found.append((name, out, weighted))

        return hook

    with ExitStack() as stack:
        for name, module in model.named_modules():
            if name and not isinstance(module, ATTENTION):
                own = any(True for _ in module.parameters(recurse=False))
                stack.callback(module.register_forward_hook(note(name, own)).remove)
        total = scores(model, images.clone().requires_grad_()).sum()
    for name, out, position in reversed(found):
        if 2 * position <= weighted:
            break
        if torch.autograd.grad(total, out, retain_graph=True, allow_unused=True)[0] is not None:
            return name
    raise InputError(
        f"{type(model).__name__}: no layer near the class scores has maps (N, C, h, w); name a layer and its layout, "
        "such as layer=blocks.10 layout=tokens (ViT) or layer=layers.3 layout=nhwc (Swin)"
    )


def _is_map(out: Tensor, images: Tensor) -> bool:
    """Return whether an output has more than one cell and about the aspect ratio of the images."""
    if out.ndim != 4 or out.shape[-2] * out.shape[-1] < 2 or not out.requires_grad:
        return False
    (h, w), (height, width) = out.shape[-2:], images.shape[-2:]
    return abs(h * width - w * height) <= max(height, width)
