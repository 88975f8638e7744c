"""The root of each verb's config: these classes refuse unknown keys and wrong types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore


def _key(default: Any, about: str) -> Any:
    """Return a config key with its default and the sentence that `--help` prints."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"help": about})
    return field(default=default, metadata={"help": about})


def _group() -> Any:
    """Return a config group: its keys and values come from the chosen YAML file."""
    return field(default=None, metadata={})


@dataclass
class Train:
    """`wsol train`."""

    name: str | None = _key(None, "name of the run; default <data>-<method>-<backbone>")
    seed: int = _key(0, "seed of the initial weights, the order of the images, and all other randomness")
    data_dir: str = _key("data", "folder of the datasets, in which the embedded one is generated")
    runs_dir: str = _key("runs", "folder for run folders")
    run_dir: str | None = _key(None, "this run's folder; default <runs_dir>/<name>/<date and time>")
    resume: Any = _key(False, "true: resume the newest run with this config, or start one; or a run folder to resume")
    image_size: int | None = _key(None, "side of the network's input, pixels; default: as the weights expect")
    topk: list[int] = _key([1, 5], "which top-k errors to report")
    monitor: str | None = _key(
        "val/top1_error", "metric on the val split that chooses the best checkpoint; null: use the last"
    )
    label_smoothing: float = _key(0.0, "share of the target spread uniformly over all classes")
    memory_format: str = _key("auto", "channels_last, contiguous, or auto")
    eval_precision: str = _key("32-true", "precision of reported results: 32-true, bf16-mixed, 16-mixed or auto")
    compile: bool = _key(False, "speed the network up with torch.compile; the first steps take minutes")
    checkpoint_every_steps: int | None = _key(
        None, "also write last.ckpt every so many optimizer steps; null: only at the end of epochs"
    )
    on_nan: str = _key("stop", "what to do if the training loss is not finite: stop or continue")
    choices: dict[str, Any] = field(default_factory=dict)
    data: Any = _group()
    transform: Any = _group()
    loader: Any = _group()
    backbone: Any = _group()
    method: Any = _group()
    protocol: Any = _group()
    optim: Any = _group()
    schedule: Any = _group()
    trainer: Any = _group()
    logger: Any = _group()


@dataclass
class Ae(Train):
    """`wsol ae`: an ordinary run, repeated."""

    rounds: int = _key(3, "number of networks that are trained, one after the other")
    threshold: float = _key(0.8, "fraction of a map's range above which the region is erased; 0.2: CAM's box region")


@dataclass
class Eval:
    """`wsol eval`."""

    run: str | None = _key(None, "run folder of `wsol train`, or a checkpoint file")
    checkpoint: str = _key("best", "best, last, or the name of a file in the run's checkpoints")
    split: str = _key("test", "split to evaluate: test or val")
    out: str | None = _key(None, "folder of results.json; default <run folder>/eval/<date and time>")
    force: bool = _key(False, "replace the output of an earlier run of this verb")
    data_dir: str | None = _key(None, "folder of the datasets; default as in the run")
    batch_size: int | None = _key(None, "default as in the run")
    num_workers: int | None = _key(None, "default as in the run")
    image_size: int | None = _key(None, "default as in the run")
    topk: list[int] | None = _key(None, "which top-k errors to report; default as in the run")
    on_bad_image: str | None = _key(None, "stop or skip; default as in the run")
    save_maps: bool = _key(False, "save the maps of all evaluated images in <out>/maps, for `wsol score`")
    maps_dtype: str = _key(
        "auto", "type of saved maps: float32, float16, uint8; auto is float32 up to 64 x 64, else uint8"
    )
    classes: Any = _key(None, "external classes: CSV (image_id,class,score), a second run or its checkpoint")
    eval_precision: str = _key("32-true", "precision of reported results: 32-true, bf16-mixed, 16-mixed or auto")
    compile: bool = _key(False, "speed the network up with torch.compile; the first steps take minutes")
    recognize: str | None = _key(
        None, "also classify again using the maps: crop (CAM's box) or weighted (pixel by pixel)"
    )
    name: str | None = _key(None, "name of the network for model=torchvision or model=timm")
    weights: str | None = _key(
        None, "weights of that network: DEFAULT (torchvision), pretrained (timm), a path; null: random"
    )
    trust: bool = _key(False, "build objects of any package that the checkpoint's config names")
    choices: dict[str, Any] = field(default_factory=dict)
    data: Any = _group()
    transform: Any = _group()
    protocol: Any = _group()
    explainer: Any = _group()
    model: Any = _group()
    trainer: Any = _group()
    logger: Any = _group()


@dataclass
class Predict:
    """`wsol predict`."""

    run: str | None = _key(None, "run folder of `wsol train`, or a checkpoint file")
    checkpoint: str = _key("best", "best, last, or the name of a file in the run's checkpoints")
    images: Any = _key(None, "a file, a folder, a glob in quotes, a list of these, or - for paths on standard input")
    boxes: str | None = _key(None, "ground-truth boxes, CSV or COCO JSON, to draw and compare")
    out: str | None = _key(None, "folder to write; default <run folder>/predict/<date and time>")
    force: bool = _key(False, "replace the output of an earlier run of this verb")
    top: int = _key(1, "number of best classes to report per image")
    classes: list[Any] | None = _key(None, "predict these classes instead, by name or index")
    threshold: float | None = _key(
        None, "threshold of the box as a fraction of the map's maximum; default: the protocol's"
    )
    maps: str = _key("png", "format of saved maps, at the image's size: png (16 bits), npy (float32), none")
    overlays: bool = _key(True, "write each image with its map and boxes")
    batch_size: int = _key(32, "number of images at once")
    image_size: int | None = _key(None, "side of the network's input, pixels; default as in the run")
    device: str = _key("auto", "auto, cpu, cuda")
    name: str | None = _key(None, "name of the network for model=torchvision or model=timm")
    weights: str | None = _key(
        None, "weights of that network: DEFAULT (torchvision), pretrained (timm), a path; null: random"
    )
    trust: bool = _key(False, "build objects of any package that the checkpoint's config names")
    choices: dict[str, Any] = field(default_factory=dict)
    transform: Any = _group()
    protocol: Any = _group()
    explainer: Any = _group()
    model: Any = _group()


@dataclass
class Score:
    """`wsol score`."""

    maps: str | None = _key(None, "saved maps: folder of a run, of its evaluation, a map store, or .npy and .png files")
    val_maps: str | None = _key(None, "maps of the val split, which choose thresholds; default: those beside maps")
    against: str | None = _key(None, "a second set of maps of the same images for a paired comparison")
    split: str = _key("test", "split of the maps")
    view: str = _key("whole", "what map files show: the whole image, or its centre crop (256, 224)")
    classes: str | None = _key(None, "CSV of classes (image_id,class,score) for top-k errors; a map store has its own")
    missing: str = _key("refuse", "what to do about images without a map: refuse or count_as_miss")
    topk: list[int] = _key([1, 5], "which top-k errors to report if classes are known")
    per_image: bool = _key(True, "write per_image.csv: every image's box, overlap and kind of error")
    baselines: bool = _key(True, "also evaluate the predictions that need no network")
    data_dir: str | None = _key(None, "folder of the datasets; default data, or as in the run")
    runs_dir: str = _key("runs", "folder for run folders")
    out: str | None = _key(None, "folder of results.json; default <runs_dir>/score-<name of the maps>/<date and time>")
    force: bool = _key(False, "replace the output of an earlier run of this verb")
    trust: bool = _key(False, "build a dataset of any package that the run's config names")
    choices: dict[str, Any] = field(default_factory=dict)
    data: Any = _group()
    transform: Any = _group()
    protocol: Any = _group()


@dataclass
class Report:
    """`wsol report`."""

    split: str = _key("test", "split to show: test or val")
    limit: int | None = _key(None, "maximum number of images to show, spread evenly over the split")
    picture_side: int = _key(320, "longer side of the images, pixels")
    out: str | None = _key(None, "folder to write; default <first run>/report/<date and time>")
    force: bool = _key(False, "replace the output of an earlier run of this verb; same as --force")
    data_dir: str | None = _key(None, "folder of the datasets; default as in the runs")
    batch_size: int | None = _key(None, "batch size when maps are made; default as in the run")
    num_workers: int | None = _key(None, "number of loading processes when maps are made")
    trust: bool = _key(False, "build objects of any package that a run's config names")
    choices: dict[str, Any] = field(default_factory=dict)
    protocol: Any = _group()


@dataclass
class Convert:
    """`wsol convert`."""

    weights: str | None = _key(None, "file of the other program: a state dict or a checkpoint with one")
    output_stride: int | None = _key(None, "16 or 8, as in its training; required if the tensors do not determine it")
    delta: float | None = _key(None, "threshold for ACoL's erasing, as in its training; default the other program's")
    data_dir: str = _key("data", "folder of the datasets")
    runs_dir: str = _key("runs", "folder for run folders")
    out: str | None = _key(None, "run folder, or .safetensors file; default <runs_dir>/convert-<name>/<date and time>")
    force: bool = _key(False, "replace the output of an earlier run of this verb, or the file")
    choices: dict[str, Any] = field(default_factory=dict)
    data: Any = _group()
    transform: Any = _group()
    backbone: Any = _group()
    method: Any = _group()


@dataclass
class Export:
    """`wsol export`."""

    run: str | None = _key(None, "run folder of `wsol train`, or a checkpoint file")
    checkpoint: str = _key("best", "best, last, or the name of a file in the run's checkpoints")
    format: str = _key("onnx", "onnx, torch_export or safetensors (reloadable by this program)")
    out: str | None = _key(None, "file to write; default <run folder>/export/model.onnx, .pt2 or .safetensors")
    force: bool = _key(False, "replace the file, if it exists")
    top: int | None = _key(None, "number of top classes with maps in the output; default 5, or all if there are fewer")
    normalise: bool | None = _key(None, "false: take images already normalised; default true: take RGB in [0, 1]")
    image_size: int | None = _key(None, "side of the network's input, pixels; default as in the run")
    opset: int | None = _key(None, "ONNX opset; default: torch's")
    check: bool | None = _key(None, "false: do not compare the file with the network; default true")
    trust: bool = _key(False, "build objects of any package that the checkpoint's config names")
    choices: dict[str, Any] = field(default_factory=dict)


@dataclass
class Search:
    """The settings of `wsol sweep`; ``configs/sweep`` has ready-made ones."""

    metric: str = _key("val/top1_error", "metric of the val split that ranks trials and chooses their checkpoints")
    trials: int = _key(20, "total number of trials; a higher number later continues the study")
    workers: int = _key(1, "number of processes on this machine; other machines may join in the same folder")
    sampler: str = _key("random", "random or tpe")
    pruner: str = _key("none", "none, median or hyperband: stops unpromising trials")
    warmup_epochs: int = _key(1, "epochs before the first pruning")
    seed: int = _key(0, "seed of the sampler")
    storage: str = _key("sqlite", "sqlite or journal, both in the folder, or the URL of a database server")
    folder: str | None = _key(None, "folder of the study and its trials; default <runs_dir>/sweep-<choice>-<name>")
    test: bool = _key(False, "evaluate the best trial on the test split, once, at the end")
    overrides: list[str] = _key([], "overrides of `wsol train` for all trials")
    space: dict[str, Any] = _key({}, "keys of `wsol train`: {choice: [...]}, {range: [a, b]} or {log: [a, b]}")


@dataclass
class Sweep:
    """`wsol sweep`."""

    sweep: Search = field(default_factory=Search)
    choices: dict[str, Any] = field(default_factory=dict)


@dataclass
class Kit:
    """`wsol kit`."""

    predictions: str | None = _key(
        None,
        "guesses in the challenge's text format; with out=, a `wsol predict` folder of all its images",
    )
    devkit_synsets: str | None = _key(None, "text file of the synsets of ILSVRC2012_ID 1, 2, ..., one per line")
    out: str | None = _key(None, "file to write the predictions to in the challenge's format, instead of scoring")
    force: bool = _key(False, "replace that file if it exists")
    data_dir: str = _key("data", "folder of the datasets")
    choices: dict[str, Any] = field(default_factory=dict)
    data: Any = _group()
    transform: Any = _group()


@dataclass
class DataVerify:
    """`wsol data verify`."""

    data_dir: str = _key("data", "folder of the datasets")
    deep: bool | None = _key(None, "decode every image, not only its header; null: up to 20,000 images")
    choices: dict[str, Any] = field(default_factory=dict)
    data: Any = _group()
    transform: Any = _group()


@dataclass
class Features:
    """Keys shared by the verbs on features."""

    run: str | None = _key(None, "run folder of `wsol train`, or a checkpoint file")
    checkpoint: str = _key("best", "best, last, or the name of a file in the run's checkpoints")
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
    """`wsol svm`."""

    data_dir: str | None = _key(None, "folder of the datasets; default data, or as in the run")
    runs_dir: str = _key("runs", "folder for the results of a bare backbone")
    point: str | None = _key(None, "point or module whose features are used; default: the input of the head's pooling")
    crops: Any = _key(["whole"], "crops of train and test images: whole, map (box of a class map), box (ground truth)")
    maps: str | None = _key(None, "maps for crops=map: localizer or svm; default localizer for a run, else svm")
    train_on: str = _key("same", "train the SVM on images cropped the same way (same), or on whole images (whole)")
    threshold: float | None = _key(
        None, "threshold of the map's box as a fraction of its maximum; default: the protocol's"
    )
    C: Any = _key(1.0, "cost of the SVM; a list: the best in cross-validation on the training images")
    l2: bool = _key(True, "scale the features of each image to length 1")
    seed: int = _key(0, "seed of the SVM's solver and of cross-validation")
    data: Any = _group()
    backbone: Any = _group()
    protocol: Any = _group()


@dataclass
class Units(Features):
    """`wsol units`."""

    data_dir: str | None = _key(None, "folder of the datasets; default data, or as in the run")
    split: str = _key("test", "split of the images")
    classes: list[Any] | None = _key(None, "classes to show, by name or index; default all")
    units: int = _key(5, "number of units with the greatest weights to show per class")
    images: int = _key(6, "number of images that activate a unit most to show per unit")
    threshold: float = _key(0.5, "threshold of the region shown, as a fraction of the unit's maximum in the image")
    data: Any = _group()


@dataclass
class Concept(Features):
    """`wsol concept`."""

    positives: Any = _key(None, "images with the concept: a folder, a file, a glob in quotes, or a list of these")
    negatives: Any = _key(None, "images without the concept")
    images: Any = _key(None, "images to draw maps for; default those held out")
    runs_dir: str = _key("runs", "folder for the results of a bare backbone")
    point: str | None = _key(None, "point or module whose features are used; default: the input of the head's pooling")
    held_out: float = _key(0.25, "share of the positives and of the negatives that is held out from the SVM's training")
    C: Any = _key(1.0, "cost of the SVM; a list: the best in cross-validation on the training images")
    l2: bool = _key(True, "scale the features of each image to length 1")
    seed: int = _key(0, "seed of the held-out selection and of the SVM")
    backbone: Any = _group()


VERBS = {
    "train": Train,
    "ae": Ae,
    "eval": Eval,
    "predict": Predict,
    "score": Score,
    "report": Report,
    "svm": Svm,
    "units": Units,
    "concept": Concept,
    "convert": Convert,
    "export": Export,
    "kit": Kit,
    "data_verify": DataVerify,
    "sweep": Sweep,
}


def register() -> None:
    """Register the classes with Hydra as ``schema/<verb>``."""
    store = ConfigStore.instance()
    for name, node in VERBS.items():
        store.store(group="schema", name=name, node=node, package="_global_")
