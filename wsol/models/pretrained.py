"""Classifiers of torchvision and timm by name."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import timm
import torchvision.models as zoo
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from wsol.backbones.fixed_size import FixedSize
from wsol.backbones.weights import INTERPOLATIONS, choose_preprocessing, find_weights, load_strictly
from wsol.errors import InputError, near_matches, unknown
from wsol.models.classifier import Classifier
from wsol.types import Output, Preprocessing

log = logging.getLogger(__name__)

_NORMALISED = "weights %s: a file does not say how its images were normalised; mean %s and std %s are used"


def torchvision_classifier(name: str | None, weights: str | None = None) -> Classifier:
    """Make a classifier of torchvision.

    Args:
        name: torchvision's name (``resnet50``).
        weights: torchvision's name of the weights (``DEFAULT``), a path to a state dict, or None for random weights.

    Raises:
        InputError: an unknown name, or weights that do not fit.
    """
    names = zoo.list_models(module=zoo)
    if name not in names:
        raise unknown("torchvision model", str(name), names)
    entries = zoo.get_model_weights(name).__members__
    entry = entries.get((weights or "").rpartition(".")[2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about the future initialisation of GoogLeNet and Inception
        try:
            network = zoo.get_model(name, weights=entry)
        except (OSError, RuntimeError) as error:
            raise InputError(f"weights {entry}: download failed ({error}); give the path of a state dict") from error
    if entry is None:
        if weights is not None:
            load_strictly(network, (found := find_weights(weights, name)).state, found.source)
            log.info(_NORMALISED, weights, list(Preprocessing().mean), list(Preprocessing().std))
        return Classifier(network, _outputs(network), Preprocessing())
    expected = entry.transforms()
    wishes = {
        "mean": expected.mean,
        "std": expected.std,
        "size": expected.crop_size[0],
        "interpolation": expected.interpolation.value,
    }
    preprocessing = choose_preprocessing(Preprocessing(), wishes)
    return Classifier(network, _outputs(network), preprocessing, entry.meta.get("categories"))


class TimmClassifier(Classifier):
    """A classifier of timm, which refuses images of a size that it was not built for."""

    input_size: FixedSize

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Output:
        """Score the classes of float images (N, 3, H, W); ``labels`` are not used.

        Raises:
            InputError: images of a size that the model was not built for.
        """
        self.input_size.check(self.network, images.shape[3], images.shape[2])
        return super().forward(images, labels)


def timm_classifier(
    name: str | None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
) -> Classifier:
    """Make a classifier of timm.

    Args:
        name: timm's name (``convnext_tiny``).
        weights: ``pretrained`` (timm's, downloaded and cached), a path to a state dict, or None for random weights.
        options: more arguments of the model, such as ``{num_classes: 200}``.
        preprocessing: entries that replace those of the model's pretrained config, for weights that expect other input.

    Raises:
        InputError: an unknown name, or weights that do not fit.
    """
    if name is None or not timm.is_model(name):
        close = get_close_matches(str(name), timm.list_models(), n=5, cutoff=0.4)
        raise InputError(
            f"name={name}: timm has no such model; {near_matches(str(name), close)} (all: timm.list_models())"
        )
    try:
        network = timm.create_model(name, pretrained=weights == "pretrained", **(options or {}))
    except (OSError, RuntimeError, TypeError) as error:
        raise InputError(f"timm cannot make {name} with {dict(options or {})}, weights={weights}: {error}") from error
    if weights not in (None, "pretrained"):
        found = find_weights(weights, None)
        load_strictly(network, found.state, found.source)
    expected, size = resolve_model_data_config(network), FixedSize(name, network, options or {}, key="options")
    known = expected["interpolation"] in INTERPOLATIONS
    wishes = {
        "mean": expected["mean"],
        "std": expected["std"],
        "size": size.built[1] if size.fixed else expected["input_size"][1],
        "interpolation": expected["interpolation"] if known else "bicubic",
    }
    chosen = choose_preprocessing(choose_preprocessing(Preprocessing(), wishes), preprocessing)
    if weights not in (None, "pretrained"):
        log.info(_NORMALISED, weights, list(chosen.mean), list(chosen.std))
    made = TimmClassifier(network, _outputs(network) if network.num_classes else 0, chosen)
    made.input_size = size
    return made


def imagenet_classes(num_classes: int) -> tuple[str, ...] | None:
    """Return the names of ImageNet's 1,000 classes in the usual order (of synset ids); None for another number.

    Example:
        >>> imagenet_classes(1000)[285]
        'Egyptian cat'
    """
    names = zoo.ResNet50_Weights.DEFAULT.meta["categories"]
    return tuple(names) if num_classes == len(names) else None


def _outputs(network: nn.Module) -> int:
    """Return number of classes: of the last linear layer, or convolution (SqueezeNet)."""
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    last = layers[-1]
    return last.out_features if isinstance(last, nn.Linear) else last.out_channels
