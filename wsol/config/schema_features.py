"""The root config of each verb on features: `wsol features svm`, `units` and `concept`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wsol.config.schema_fields import group as _group
from wsol.config.schema_fields import key as _key


@dataclass
class Features:
    """Keys shared by the verbs on features."""

    run: str | None = _key(None, "RUN: a run's folder, its name, last, or a checkpoint file")
    checkpoint: str = _key("best", "best, last, or the name of a file in the run's checkpoints")
    runs_dir: str = _key("runs", "folder of the runs, and of the results of a backbone without a run")
    out: str | None = _key(None, "folder to write; default <run folder>/<verb>/<date and time>")
    force: bool = _key(False, "replace the output of an earlier run of this verb")
    batch_size: int = _key(32, "number of images at once")
    num_workers: Any = _key("auto", "number of loading processes, or auto")
    image_size: int | None = _key(None, "side of the network's input, pixels; default as in the run")
    device: str = _key("auto", "auto, cpu, cuda")
    trust: bool = _key(False, "build objects of any package that the checkpoint's config names")
    choices: dict[str, Any] = field(default_factory=dict)
    transform: Any = _group()


@dataclass
class Svm(Features):
    """`wsol features svm`."""

    data_dir: str | None = _key(None, "folder of the datasets; default data, or as in the run")
    point: str | None = _key(None, "point or module of the features; default the input of the head's pooling")
    crops: Any = _key(["whole"], "crops of the images: some of whole, map (a class map's box), box (the true one)")
    maps: str | None = _key(None, "for crops=map: the localizer's or the svm's; default localizer for a run, else svm")
    train_on: str = _key("same", "crops to train the SVM on: same (as in the test) or whole")
    threshold: float | None = _key(None, "threshold of the map's box, fraction of the maximum; default the protocol's")
    C: Any = _key(1.0, "cost of the SVM; a list: the best in cross-validation on the training images")
    l2: bool = _key(True, "scale the features of each image to length 1")
    seed: int = _key(0, "seed of the SVM's solver and of cross-validation")
    data: Any = _group()
    backbone: Any = _group()
    protocol: Any = _group()


@dataclass
class Units(Features):
    """`wsol features units`."""

    data_dir: str | None = _key(None, "folder of the datasets; default data, or as in the run")
    split: str = _key("test", "split of the images")
    classes: list[Any] | None = _key(None, "classes to show, by name or index; default all")
    units: int = _key(5, "number of units with the largest weights to show per class")
    images: int = _key(6, "number of images that activate a unit most to show per unit")
    threshold: float = _key(0.5, "threshold of the region shown, as a fraction of the unit's maximum in the image")
    data: Any = _group()


@dataclass
class Concept(Features):
    """`wsol features concept`."""

    positives: Any = _key(None, "images with the concept: a folder, a file, a glob in quotes, or a list of these")
    negatives: Any = _key(None, "images without it")
    images: Any = _key(None, "images to draw maps of; default the held-out ones")
    point: str | None = _key(None, "point or module of the features; default the input of the head's pooling")
    held_out: float = _key(0.25, "share of the positives and of the negatives held out from training the SVM")
    C: Any = _key(1.0, "cost of the SVM; a list: the best in cross-validation on its training images")
    l2: bool = _key(True, "scale the features of each image to length 1")
    seed: int = _key(0, "seed of the held-out selection and of the SVM")
    backbone: Any = _group()
