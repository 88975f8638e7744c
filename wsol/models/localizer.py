"""A backbone, a head and edits as one network that classifies and localizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wsol.backbones.base import Backbone
from wsol.errors import InputError
from wsol.heads.base import Head
from wsol.types import Output, Preprocessing


class Localizer(nn.Module):
    """The network of a method.

    Args:
        backbone: computes the features.
        head: a `Head`, or a callable ``head(points, num_classes)`` that makes one (``_partial_: true`` in YAML).
        num_classes: number of classes K.
        edits: modules by the name of the point they are inserted after.
        classes: names of the classes, in order; None if they have no names.
        pretrained_classifier: start from the classifier of the backbone's weights; the classes and their order must
            then be those of the weights.

    Raises:
        InputError: an unknown point, a number of class names other than K, or weights without a classifier that fits.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from wsol.backbones.tiny import Tiny
        >>> from wsol.heads.gap import GapHead
        >>> model = Localizer(Tiny(), partial(GapHead, pool="max"), num_classes=8).eval()
        >>> output = model(torch.zeros(2, 3, 64, 64))
        >>> model.maps(output, output.logits.topk(5).indices).shape
        torch.Size([2, 5, 16, 16])
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head | Callable[..., Head],
        num_classes: int,
        edits: Mapping[str, nn.Module] | None = None,
        classes: Sequence[str] | None = None,
        pretrained_classifier: bool = False,
    ) -> None:
        super().__init__()
        if classes is not None and len(classes) != num_classes:
            raise InputError(f"expected {num_classes} class names, got {len(classes)}")
        self.backbone = backbone
        self.head = head if isinstance(head, Head) else head(points=backbone.named_points, num_classes=num_classes)
        if self.head.num_classes != num_classes:
            raise InputError(f"the head has {self.head.num_classes} classes, expected {num_classes}")
        self.classes = None if classes is None else tuple(classes)
        self.recipe: dict[str, Any] | None = None
        """Config of backbone and method, if `wsol.create_localizer` made the network; see `wsol.fit`."""
        self.random_state: Tensor | None = None
        """State of torch's random number generator after its weights were initialised."""
        edits = dict(edits or {})
        backbone.place(edits)
        for tap in self.head.taps:
            backbone.resolve(tap)
        if self.head.reruns is not None:
            backbone.check_rerun(self.head.reruns)
        # A point's name may contain a dot, a module's must not.
        self.edits = nn.ModuleDict({point.replace(".", "/"): edit for point, edit in edits.items()})
        # In a tuple, so that it is not registered as a part of the network; made here, because torch.compile cannot
        # trace the construction of a module.
        self._tail: tuple[_Tail, ...] = () if self.head.reruns is None else (_Tail(self, self.head.reruns),)
        if pretrained_classifier:
            self._load_classifier()

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return self.head.num_classes

    @property
    def classifies(self) -> bool:
        """Whether it scores classes."""
        return self.head.classifies

    @property
    def class_agnostic(self) -> bool:
        """Whether the maps of an image are the same for all classes."""
        return self.head.class_agnostic

    @property
    def gives_boxes(self) -> bool:
        """Whether it predicts the box of an image itself, and has no maps."""
        return self.head.gives_boxes

    @property
    def preprocessing(self) -> Preprocessing:
        """The input that the backbone expects."""
        return self.backbone.preprocessing

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Output:
        """Score the classes.

        Args:
            images: float (N, 3, H, W), normalised according to `preprocessing`.
            labels: int64 (N,) ground-truth classes, for methods that use them in training.
        """
        features = self.backbone(images, taps=self.head.taps, edits=self.edits_by_point())
        found: Output
        if self.head.reruns is None:
            found = self.head(features, labels)
        else:
            found = self.head(features, labels, rerun=self.rerun)
        return found

    def rerun(self, x: Tensor, frozen: bool = True) -> Tensor:
        """Run the stages behind the point ``head.reruns`` on other features, edits included.

        Args:
            x: features at that point, float (N, C, h, w).
            frozen: run a copy of the stages: gradients reach x, not the parameters, and buffers, such as the
                running statistics of batch norms, do not change.

        Returns:
            The last features.
        """
        tail = self._tail[0]
        found: Tensor
        if not frozen:
            found = tail(x)
            return found
        copied = {name: parameter.detach() for name, parameter in tail.used(tail.named_parameters())}
        copied |= {name: buffer.clone() for name, buffer in tail.used(tail.named_buffers())}
        found = torch.func.functional_call(tail, copied, (x,))
        return found

    def edits_by_point(self) -> dict[str, nn.Module]:
        """Return the edits by the name of the point they are inserted after."""
        return {name.replace("/", "."): edit for name, edit in self.edits.items()}

    def loss(
        self, output: Output, targets: Tensor, label_smoothing: float = 0.0, pseudo: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the terms of the training loss by name; their sum is minimised. See `Head.loss`."""
        return self.head.loss(output, targets, label_smoothing, pseudo)

    def maps(self, output: Output, classes: Tensor) -> Tensor:
        """Return float32 (N, M, h, w) class maps of the requested classes int64 (N, M), from the same forward pass."""
        return self.head.maps(output, classes)

    def boxes(self, output: Output) -> Tensor:
        """Return the boxes float32 (N, 4) of a network that gives boxes, in [0, 1] of its input; see `Head.boxes`.

        Raises:
            InputError: the network makes maps.
        """
        found = self.head.boxes(output)
        if found is None:
            raise InputError(f"{type(self.head).__name__} gives no boxes of its own: find them in its maps")
        return found

    def parameter_groups(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Return the trainable parameters with their names, as ``backbone`` and ``head``.

        Edits belong to the head, and so do layers that the surgery adds to a backbone (`Backbone.added`).
        """
        added = tuple(f"backbone.{prefix}" for prefix in self.backbone.added)
        groups: dict[str, list[tuple[str, nn.Parameter]]] = {"backbone": [], "head": []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                is_backbone = name.startswith("backbone.") and not (added and name.startswith(added))
                groups["backbone" if is_backbone else "head"].append((name, parameter))
        return groups

    def freeze_unused(self) -> list[str]:
        """Freeze the parameters of the backbone that no class score depends on; returns their names.

        Distributed training would wait forever for their gradients.
        """
        points = [name.replace("/", ".") for name in self.edits]
        unused = self.backbone.unused_parameters(self.head.taps, points)
        for parameter in unused.values():
            parameter.requires_grad_(False)
        return [f"backbone.{name}" for name in unused]

    def no_weight_decay(self) -> set[str]:
        """Return the names of the backbone's parameters that get no weight decay."""
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}

    def _load_classifier(self) -> None:
        if not self.backbone.classifier_state:
            raise InputError(
                f"pretrained_classifier: {type(self.backbone).__name__} has no pretrained classifier on the mean of "
                f"its last features: {self.backbone.no_classifier}. Set pretrained_classifier=false, or explain the "
                "whole classifier with Grad-CAM (wsol eval model=timm explainer=gradcam)"
            )
        if self.backbone.rectified != getattr(self.head, "rectify", False):
            behind, method = ("ReLU before the pooling", "cam_1x1") if self.backbone.rectified else ("no ReLU", "cam")
            raise InputError(
                f"pretrained_classifier: that of {type(self.backbone).__name__} has {behind} after its layer, and this "
                f"head does not; use method={method}"
            )
        self.head.load_classifier(self.backbone.classifier_state)


class _Tail(nn.Module):
    """The stages behind a point of a localizer, and the edits there, as one module."""

    def __init__(self, localizer: Localizer, point: str) -> None:
        super().__init__()
        self.localizer, self.point = localizer, point
        paths = (path for stage in localizer.backbone.steps_behind(point) for path in stage.modules)
        self._prefixes = (*(f"localizer.backbone.{path}." for path in paths), "localizer.edits.")

    def forward(self, x: Tensor) -> Tensor:
        return self.localizer.backbone.behind(self.point, x, self.localizer.edits_by_point())

    def used(self, named: Iterable[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
        """Return those of the named tensors that belong to the stages and edits."""
        return [(name, value) for name, value in named if name.startswith(self._prefixes)]
