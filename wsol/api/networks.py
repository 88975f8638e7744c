"""The public API: list the available parts, make a network, train it, evaluate it, and predict images.

::

    import wsol

    net = wsol.create_localizer("resnet50", method="acol_1x1", num_classes=200, pretrained=True, output_stride=8)
    run = wsol.fit(net, data="cub", data_dir="data", max_epochs=50)
    results = wsol.evaluate(run, protocol="choe2020")
    found = wsol.load(run).predict("photo.jpg")

Names are those of the config groups (``configs/backbone``, ``configs/method``, ...), which the command line uses too.
`fit` does the same as `wsol train` and `evaluate` the same as `wsol eval`; they write the same folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from wsol.config import build
from wsol.config.argument_overrides import (
    backbone_overrides,
    data_overrides,
    key_overrides,
    known_choice,
    matching_choices,
    protocol_overrides,
)
from wsol.config.compose import compose, override
from wsol.engine import run_evaluation, training
from wsol.engine.networks import Network
from wsol.engine.predictor import load
from wsol.errors import InputError
from wsol.models.localizer import Localizer
from wsol.models.pretrained import imagenet_classes
from wsol.runs.run import Run

__all__ = [
    "create_localizer",
    "evaluate",
    "fit",
    "list_backbones",
    "list_datasets",
    "list_explainers",
    "list_methods",
    "list_protocols",
    "load",
]

Overrides = Mapping[str, Any]
"""More keys of a verb's config by their dotted names, such as ``{"optim.optimizer.lr": 0.01}``."""


def list_backbones(pattern: str = "*", *, config_dirs: Sequence[str] = ()) -> list[str]:
    """Return the names of the backbones, including those of the user's own configs.

    Args:
        pattern: a shell pattern, such as ``"resnet*"``.
        config_dirs: folders of the user's own configs.

    Example:
        >>> list_backbones("resnet*")
        ['resnet101', 'resnet18', 'resnet34', 'resnet50']
    """
    return matching_choices("backbone", pattern, config_dirs)


def list_methods(pattern: str = "*", *, config_dirs: Sequence[str] = ()) -> list[str]:
    """Return the names of the methods; see `list_backbones`.

    Example:
        >>> list_methods("acol*")
        ['acol', 'acol_1x1', 'acol_chain']
    """
    return matching_choices("method", pattern, config_dirs)


def list_protocols(pattern: str = "*", *, config_dirs: Sequence[str] = ()) -> list[str]:
    """Return the names of the localization protocols; see `list_backbones`.

    Example:
        >>> list_protocols("choe*")
        ['choe2020', 'choe2020-v2']
    """
    return matching_choices("protocol", pattern, config_dirs)


def list_datasets(pattern: str = "*", *, config_dirs: Sequence[str] = ()) -> list[str]:
    """Return the names of the datasets; see `list_backbones`.

    Example:
        >>> list_datasets("cub*")
        ['cub', 'cub_lists']
    """
    return matching_choices("data", pattern, config_dirs)


def list_explainers(pattern: str = "*", *, config_dirs: Sequence[str] = ()) -> list[str]:
    """Return the names of the attribution methods; see `list_backbones`.

    Example:
        >>> list_explainers("grad*")
        ['gradcam', 'gradcam_pp']
    """
    return matching_choices("explainer", pattern, config_dirs)


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
    if pretrained_classifier is None:
        pretrained_classifier = num_classes is None and classes is None and (pretrained or weights is not None)
    _check_classes(num_classes, classes, pretrained_classifier)
    _check_weights(pretrained, weights, pretrained_classifier)
    keys: dict[str, Any] = {"backbone.output_stride": output_stride, "backbone.weights": weights}
    keys["method.pretrained_classifier"] = pretrained_classifier or None
    words = [*backbone_overrides(backbone, config_dirs), f"method={known_choice('method', method, config_dirs)}"]
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


def fit(
    localizer: Localizer,
    data: str = "creatures",
    *,
    root: str | Path | None = None,
    data_dir: str | Path | None = None,
    protocol: str | Sequence[str] | None = None,
    max_epochs: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    name: str | None = None,
    run_dir: str | Path | None = None,
    resume: bool = False,
    overrides: Overrides | None = None,
    callbacks: Sequence[pl.Callback] = (),
    config_dirs: Sequence[str] = (),
) -> Run:
    """Train a network as `wsol train` does, and evaluate its best checkpoint.

    Args:
        localizer: made by `create_localizer`; it is trained in place and has the weights of the last epoch afterwards.
        data: name of a dataset, see `list_datasets`; or a folder with a folder of images for each class.
        root: folder of the dataset; None for its default below ``data_dir``.
        data_dir: folder of all datasets.
        protocol: names of the localization protocols.
        max_epochs: number of epochs.
        batch_size: number of images per step.
        seed: seed of all randomness; None for the one of `create_localizer`.
        name: name of the run.
        run_dir: folder of the run; None for a new one below ``runs``.
        resume: continue a run of the same config.
        overrides: more keys of ``wsol train``, such as ``{"optim.optimizer.lr": 0.01}``.
        callbacks: Lightning callbacks in addition to those of every run.
        config_dirs: folders of the user's own configs.

    Returns:
        The finished run: its folder, results and checkpoints.

    Raises:
        InputError: an unknown name, key or value, data that cannot be read, or a network with another number of
            classes.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> net = create_localizer("tiny", num_classes=8)
        >>> small = {"data.train_images": 16, "data.val_images": 8, "data.test_images": 8}
        >>> with TemporaryDirectory() as place:
        ...     run = fit(net, data_dir=place, run_dir=f"{place}/run", max_epochs=1, overrides=small)
        ...     sorted(run.results["classification"]["test"])
        ['top1_error', 'top5_error']
    """
    recipe = _recipe(localizer)
    keys = {"data_dir": data_dir, "trainer.max_epochs": max_epochs, "loader.batch_size": batch_size, "name": name}
    keys |= {"seed": recipe["seed"] if seed is None else seed, "run_dir": run_dir, "resume": resume or None}
    keys |= overrides or {}
    given = [*data_overrides(data, root, config_dirs), *protocol_overrides(protocol, config_dirs), *key_overrides(keys)]
    config = _with_recipe(compose("train", given, config_dirs), recipe)
    return Run(training.run(config, callbacks=callbacks, localizer=localizer))


def evaluate(
    run: Run | str | Path | Localizer,
    *,
    protocol: str | Sequence[str] | None = None,
    split: str = "test",
    data: str | None = None,
    root: str | Path | None = None,
    data_dir: str | Path | None = None,
    explainer: str | None = None,
    checkpoint: str = "best",
    save_maps: bool = False,
    out: str | Path | None = None,
    overrides: Overrides | None = None,
    config_dirs: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluate a network on a split as `wsol eval` does.

    Args:
        run: a run of `fit`, a run folder, or a checkpoint (.ckpt, .safetensors).
        protocol: names of the localization protocols; None for those of the run.
        split: ``test`` or ``val``.
        data: another dataset than the run's, see `fit`.
        root: folder of that dataset.
        data_dir: folder of all datasets.
        explainer: attribution method that makes the maps, see `list_explainers`; None for the network's own.
        checkpoint: checkpoint of a run folder: ``best``, ``last``, or a file's name.
        save_maps: save the maps beside the results.
        out: folder of the results; None for a new one below the run's.
        overrides: more keys of ``wsol eval``, such as ``{"topk": [1]}``.
        config_dirs: folders of the user's own configs.

    Returns:
        The content of results.json: ``localization`` (a list of rows), ``classification``, and the settings used.

    Raises:
        InputError: see `fit`, or no such run.
    """
    if data is None and root is not None:
        raise InputError("root=... requires data=...; for a dataset that has moved, set data_dir=...")
    if overrides and overrides.get("pseudo"):
        raise InputError(f"pseudo={overrides['pseudo']}: nothing is evaluated then; use wsol eval on the command line")
    given = [] if data is None else data_overrides(data, root, config_dirs)
    if explainer is not None:
        given.append(f"explainer={known_choice('explainer', explainer, config_dirs)}")
    keys = {
        "run": None if isinstance(run, Localizer) else run.folder if isinstance(run, Run) else run,
        "split": split,
        "data_dir": data_dir,
        "checkpoint": checkpoint,
        "save_maps": save_maps,
        "out": out,
        **(overrides or {}),
    }
    config = compose("eval", [*given, *protocol_overrides(protocol, config_dirs), *key_overrides(keys)], config_dirs)
    network = _in_memory(run) if isinstance(run, Localizer) else None
    return Run(run_evaluation.run(config, network)).results


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


def _recipe(localizer: Localizer) -> dict[str, Any]:
    if localizer.recipe is None:
        raise InputError(
            "this network was not made by wsol.create_localizer, so no config can record it; make it there, or use "
            "wsol.engine.module.LocalizerModule with a trainer of your own"
        )
    return localizer.recipe


def _with_recipe(config: DictConfig, recipe: Mapping[str, Any]) -> DictConfig:
    """Return the config with backbone and method of a network."""
    OmegaConf.set_struct(config, False)
    for key in PARTS:
        config[key] = recipe[key]
        config.choices[key] = recipe["choices"][key]
    OmegaConf.set_struct(config, True)
    return config


def _in_memory(localizer: Localizer) -> Network:
    """Return a network without a checkpoint, as `wsol eval` needs it."""
    recipe = _recipe(localizer)
    trained = _with_recipe(compose("train", []), recipe)
    OmegaConf.set_struct(trained, False)
    trained.name = "-".join(recipe["choices"][key].replace("/", "_") for key in reversed(PARTS))
    trained.data = None
    return Network(localizer, trained, trained.name, Path("runs") / trained.name)
