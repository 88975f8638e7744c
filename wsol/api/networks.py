"""Networks from Python, and the config that a run records of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from wsol.config import build
from wsol.config.argument_overrides import Overrides, backbone_overrides, key_overrides, known_choice
from wsol.config.compose import compose, override
from wsol.engine.networks import Network
from wsol.errors import InputError
from wsol.models.localizer import Localizer
from wsol.models.pretrained import imagenet_classes


def create_localizer(
    backbone: str,
    *,
    method: str = "cam",
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    pretrained: bool = False,
    weights: str | Path | None = None,
    pretrained_classifier: bool | None = None,
    output_stride: int | None = None,
    seed: int = 0,
    overrides: Overrides | None = None,
    config_dirs: Sequence[str] = (),
) -> Localizer:
    """Make a network from a backbone and a method.

    Args:
        backbone: see `list_backbones`; or the name of any timm model with feature maps.
        method: see `list_methods`.
        num_classes: number of classes K; not needed with ``classes`` or a pretrained classifier.
        classes: names of the classes, in label order.
        pretrained: load the library's ImageNet weights into the backbone (they are downloaded once).
        weights: file with a state dict for the backbone instead.
        pretrained_classifier: also keep the classifier of the weights, whose classes ``classes`` must be: a localizer
            without training. None: if there are weights, but neither ``num_classes`` nor ``classes``; the classes of
            ``pretrained=True`` then get ImageNet's names.
        output_stride: input pixels per cell of the final map; None leaves the backbone's own.
        seed: seed of random weights, such as the head's.
        overrides: further keys below ``backbone`` and ``method``, such as ``{"method.head.delta": 0.7}``.
        config_dirs: folders of the user's own configs.

    Returns:
        The network. Its ``recipe`` is the config of backbone and method that `fit` and checkpoints record.

    Raises:
        InputError: an unknown name (with near matches), an option that does not fit, weights that cannot be loaded or
            used as a classifier, or a number of classes that contradicts the class names.

    Example:
        >>> net = create_localizer("tiny", method="acol_1x1", num_classes=8)
        >>> net(torch.zeros(2, 3, 64, 64)).logits.shape
        torch.Size([2, 8])
    """
    words = [*backbone_overrides(backbone, config_dirs), f"method={known_choice('method', method, config_dirs)}"]
    if pretrained_classifier is None:
        pretrained_classifier = num_classes is None and classes is None and (pretrained or weights is not None)
    _check_classes(num_classes, classes, pretrained_classifier)
    _check_weights(pretrained, weights, pretrained_classifier)
    keys: dict[str, Any] = {"backbone.output_stride": output_stride, "backbone.weights": weights}
    keys["method.pretrained_classifier"] = pretrained_classifier or None
    own = [override(key, value) for key, value in (overrides or {}).items()]
    config = compose("train", [*words, *key_overrides(keys), *own], config_dirs)
    if pretrained:
        config.backbone.weights = build.pretrained_name(config.backbone)
    names = _names(num_classes, classes)
    network = _build(config, names, seed)
    if pretrained and pretrained_classifier and names is None:
        names = imagenet_classes(network.num_classes)
    network.classes = names if classes is not None or num_classes is None else None
    return network


PARTS = ("backbone", "method")


def _names(num_classes: int | None, classes: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the names of the classes, which are numbers where only their number is known."""
    if classes is not None:
        return tuple(classes)
    return None if num_classes is None else tuple(map(str, range(num_classes)))


def _build(config: DictConfig, names: tuple[str, ...] | None, seed: int) -> Localizer:
    """Build the network of a config, with random weights from ``seed``, and note its recipe."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build.build_localizer(config, names)
        network.random_state = torch.get_rng_state()
    parts = {key: OmegaConf.to_container(config[key], resolve=True) for key in PARTS}
    network.recipe = {**parts, "choices": {key: config.choices[key] for key in PARTS}, "seed": seed}
    return network


def _check_classes(num_classes: int | None, classes: Sequence[str] | None, pretrained_classifier: bool) -> None:
    """Require the number of classes or their names, and that they agree."""
    if num_classes is None and classes is None and not pretrained_classifier:
        raise InputError(
            "create_localizer needs num_classes=..., or classes=... with their names; or pretrained=True alone, which "
            "keeps the classifier of the weights"
        )
    if classes is not None and num_classes not in (None, len(classes)):
        raise InputError(f"num_classes={num_classes}, but classes has {len(classes)} names: give only one of them")


def _check_weights(pretrained: bool, weights: str | Path | None, pretrained_classifier: bool) -> None:
    """Require at most one kind of weights, and one for a pretrained classifier."""
    if pretrained_classifier and not pretrained and weights is None:
        raise InputError("pretrained_classifier=True needs weights: pretrained=True, or weights=<file>")
    if pretrained and weights is not None:
        raise InputError("set pretrained=True or weights=<file>, not both")


def recipe(localizer: Localizer) -> dict[str, Any]:
    """Return the config of a network's backbone and method, their choices and its seed.

    Raises:
        InputError: the network was not made by `create_localizer`.
    """
    if not isinstance(localizer, Localizer):
        raise InputError(f"expected a network that wsol.create_localizer made, got {localizer!r:.80}")
    if localizer.recipe is None:
        raise InputError(
            "this network was not made by wsol.create_localizer, so no config can record it; make it there, or use "
            "wsol.engine.module.LocalizerModule with a trainer of your own"
        )
    return localizer.recipe


def with_recipe(config: DictConfig, recipe: Mapping[str, Any]) -> DictConfig:
    """Return the config with backbone and method of a network."""
    OmegaConf.set_struct(config, False)
    for key in PARTS:
        config[key] = recipe[key]
        config.choices[key] = recipe["choices"][key]
    OmegaConf.set_struct(config, True)
    return config


def in_memory(localizer: Localizer) -> Network:
    """Return a network without a checkpoint, as `wsol eval` needs it."""
    own = recipe(localizer)
    trained = with_recipe(compose("train", []), own)
    OmegaConf.set_struct(trained, False)
    trained.name = "-".join(own["choices"][key].replace("/", "_") for key in reversed(PARTS))
    trained.data = None
    return Network(localizer, trained, trained.name, Path("runs") / trained.name)
