"""A plain classifier, which explainers use as they use localizers; `wsol.models.pretrained` makes them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from wsol.errors import InputError
from wsol.types import Output, Preprocessing


class Classifier(nn.Module):
    """A network from images to class scores; it has no class maps of its own.

    Args:
        network: gives scores (N, K) in evaluation mode.
        num_classes: number of classes K; 0 for a network without a classifier, which only class-agnostic explainers
            and those fitted on classes can ask.
        preprocessing: what it expects of its input.
        classes: names of the classes, in order; None if they have none.

    Example:
        >>> import torch
        >>> from wsol.explain.gradcam import GradCAM
        >>> from wsol.models.pretrained import torchvision_classifier
        >>> model = torchvision_classifier("resnet18").eval()
        >>> GradCAM("layer3")(model, torch.randn(1, 3, 64, 64), torch.tensor([[207]])).shape
        torch.Size([1, 1, 4, 4])
    """

    def __init__(
        self, network: nn.Module, num_classes: int, preprocessing: Preprocessing, classes: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.network, self.num_classes, self.preprocessing = network, num_classes, preprocessing
        self.classes = None if classes is None else tuple(classes)

    class_agnostic = False
    """It has no maps of its own."""
    gives_boxes = False
    """Nor boxes."""

    @property
    def classifies(self) -> bool:
        """Whether it has class scores."""
        return self.num_classes > 0

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Output:
        """Score the classes of float images (N, 3, H, W); ``labels`` are not used.

        A network that does not classify is not run: its scores are (N, 0).
        """
        return Output(self.network(images) if self.classifies else images.new_zeros(len(images), 0), {})

    def maps(self, output: Output, classes: Tensor) -> Tensor:
        """Raise an error: without an explainer there are no maps."""
        raise InputError(f"{type(self.network).__name__} makes no maps: choose explainer=gradcam or another")
