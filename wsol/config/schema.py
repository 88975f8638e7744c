"""The root of each verb's config: these classes refuse unknown keys and wrong types."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any

from hydra.core.config_store import ConfigStore

from wsol.config.schema_features import Concept, Svm, Units
from wsol.config.schema_fields import given as _given
from wsol.config.schema_fields import group as _group
from wsol.config.schema_fields import key as _key
from wsol.config.schema_parts import LocalizerStage, Search

UNRECORDED_GROUPS = ("experiment", "debug")
"""Groups of `wsol train` whose choices only set other keys, so that the config has no key of their own."""

PSEUDO_BOXES = "pseudo boxes of val images (list, CSV, COCO, or an evaluation's maps), for origin pseudo"


@dataclass
class Train:
    """`wsol train`."""

    name: str | None = _key(None, "name of the run; default <data>-<method>-<backbone>")
    seed: int = _key(0, "seed of the initial weights, the order of the images, and all other randomness")
    data_dir: str = _key("data", "folder of the datasets, in which the built-in one is generated")
    runs_dir: str = _key("runs", "folder for run folders")
    run_dir: str | None = _key(None, "this run's folder; default <runs_dir>/<name>/<date and time>")
    resume: Any = _key(False, "true: continue the newest run of this config, or start one; or RUN, the run to continue")
    image_size: int | None = _key(None, "side of the network's input, pixels; default what the weights expect")
    topk: list[int] = _key([1, 5], "which top-k errors to report")
    monitor: str | None = _key(
        "val/top1_error", "metric on the val split that chooses the best checkpoint; null: use the last"
    )
    pseudo_boxes: str | None = _key(None, PSEUDO_BOXES)
    pseudo: str | None = _key(
        None, "folder of pseudo boxes or masks of the training images: wsol eval RUN split=train pseudo=boxes"
    )
    label_smoothing: float = _key(0.0, "share of the target spread evenly over all classes")
    class_weights: Any = _key(
        None, "weights of classes in the loss: null, auto (inverse numbers of training images), or {name: number}"
    )
    memory_format: str = _key("auto", "channels_last, contiguous, or auto")
    eval_precision: str = _key("32-true", "precision of reported results: 32-true, bf16-mixed, 16-mixed or auto")
    compile: bool = _key(False, "speed up the network with torch.compile; the first steps take minutes")
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
    callbacks: Any = _group(is_open=True)


@dataclass
class Ae(Train):
    """`wsol ae`: an ordinary run, repeated."""

    rounds: int = _key(3, "number of networks that are trained, one after the other")
    threshold: float = _key(0.8, "fraction of a map's range above which the region is erased; 0.2: CAM's box region")


@dataclass
class Regress(Train):
    """`wsol regress`: an ordinary run of a box regressor, behind one that finds its pseudo boxes."""

    localizer: LocalizerStage = field(default_factory=LocalizerStage)
    classes: str | None = _key(
        None, "RUN or CSV whose classes are borrowed; default: the regressor's own, else the localizer's"
    )
    config_dirs: list[str] = _given()


@dataclass
class Eval:
    """`wsol eval`."""

    run: str | None = _key(None, "RUN: a run's folder, its name, last, or a checkpoint file")
    checkpoint: str = _key("best", "best, last, or the name of a file in the run's checkpoints")
    split: str = _key("test", "the split to evaluate: test or val; train only with pseudo")
    pseudo: str | None = _key(
        None, "boxes or masks: write what is found in the train split for another network to learn (split=train)"
    )
    runs_dir: str = _key("runs", "folder of the runs, for runs given by name")
    out: str | None = _key(None, "folder of results.json; default <run folder>/eval/<date and time>")
    force: bool = _key(False, "replace the output of an earlier run of this verb")
    data_dir: str | None = _key(None, "folder of the datasets; default as in the run")
    batch_size: int | None = _key(None, "default as in the run")
    num_workers: int | None = _key(None, "default as in the run")
    image_size: int | None = _key(None, "default as in the run")
    topk: list[int] | None = _key(None, "which top-k errors to report; default as in the run")
    on_bad_image: str | None = _key(None, "stop or skip; default as in the run")
    pseudo_boxes: str | None = _key(None, PSEUDO_BOXES)
    save_maps: bool = _key(False, "save the maps of all evaluated images in <out>/maps, for `wsol score`")
    maps_dtype: str = _key("auto", "float32, float16, uint8; auto is float32 for maps up to 64 x 64, else uint8")
    classes: Any = _key(None, "external classes: CSV (image_id,class,score), a second run or its checkpoint")
    eval_precision: str = _key("32-true", "precision of reported results: 32-true, bf16-mixed, 16-mixed or auto")
    compile: bool = _key(False, "speed up the network with torch.compile; the first steps take minutes")
    recognize: str | None = _key(None, "classify again with the maps: crop (CAM's box) or weighted (pixel by pixel)")
    name: str | None = _key(None, "name of the network for model=torchvision or model=timm")
    weights: str | None = _key(None, "its weights: DEFAULT (torchvision), pretrained (timm), a path; null: random")
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

    run: str | None = _key(None, "RUN: a run's folder, its name, last, or a checkpoint file")
    checkpoint: str = _key("best", "best, last, or the name of a file in the run's checkpoints")
    images: Any = _key(None, "a file, a folder, a glob in quotes, a list of these, or - for paths on standard input")
    runs_dir: str = _key("runs", "folder of the runs, for runs given by name")
    boxes: str | None = _key(None, "true boxes, CSV or COCO JSON, to draw and compare with")
    out: str | None = _key(None, "folder to write; default <run folder>/predict/<date and time>")
    force: bool = _key(False, "replace the output of an earlier run of this verb")
    top: int = _key(1, "number of best classes to report per image")
    classes: list[Any] | None = _key(None, "predict these classes instead, by name or index")
    threshold: float | None = _key(
        None, "threshold of the box as a fraction of the map's maximum; default: the protocol's"
    )
    maps: str | None = _key(
        None, "format of saved maps, at the image's size: png (16 bits), npy (float32), none; default png"
    )
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

    maps: str | None = _key(None, "RUN: a run with saved maps, an evaluation, a map store, or a folder of .npy, .png")
    val_maps: str | None = _key(None, "maps of the val split, to choose thresholds on; found beside maps")
    pseudo_boxes: str | None = _key(None, PSEUDO_BOXES)
    against: str | None = _key(None, "a second RUN: maps of the same images, to compare with, image by image")
    split: str = _key("test", "the split that the maps are of")
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

    runs: list[str] = _key([], "RUN ...: runs, and evaluations with saved maps")
    runs_dir: str = _key("runs", "folder of the runs, for runs given by name")
    split: str = _key("test", "the split to show: test or val")
    limit: int | None = _key(None, "largest number of images to show, spread evenly over the split")
    picture_side: int = _key(320, "longer side of the images, pixels")
    out: str | None = _key(None, "folder to write; default <first run>/report/<date and time>")
    force: bool = _key(False, "replace the output of an earlier run of this verb")
    data_dir: str | None = _key(None, "folder of the datasets; default as in the runs")
    batch_size: int | None = _key(None, "batch size for the maps that are made; default as in the run")
    num_workers: int | None = _key(None, "number of loading processes for the maps that are made")
    trust: bool = _key(False, "build objects of any package that a run's config names")
    choices: dict[str, Any] = field(default_factory=dict)
    protocol: Any = _group()


@dataclass
class Convert:
    """`wsol convert`."""

    weights: str | None = _key(None, "RUN: a file of the other program (state dict, checkpoint), or a run of this one")
    output_stride: int | None = _key(None, "16 or 8, as in training; needed if the tensors do not show it")
    delta: float | None = _key(None, "threshold of ACoL's erasing, as in training; default the other program's")
    relu: str | None = _key(None, "scores or ratio: the release of BAS; needed, because no tensor shows it")
    top: int | None = _key(None, "number of best classes whose mean is BAS's map; default 1, a map of each class")
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

    run: str | None = _key(None, "RUN: a run's folder, its name, last, or a checkpoint file")
    checkpoint: str = _key("best", "best, last, or the name of a file in the run's checkpoints")
    runs_dir: str = _key("runs", "folder of the runs, for runs given by name")
    format: str = _key("onnx", "onnx, torch_export or safetensors (reloadable by this program)")
    out: str | None = _key(None, "file to write; default <run folder>/export/model.onnx, .pt2 or .safetensors")
    force: bool = _key(False, "replace the file, if it exists")
    top: int | None = _key(None, "number of top classes with maps in the output; default 5, or all if there are fewer")
    normalise: bool | None = _key(None, "false: expect normalised images; default true: expect RGB in [0, 1]")
    image_size: int | None = _key(None, "side of the network's input, pixels; default as in the run")
    opset: int | None = _key(None, "ONNX opset; default: torch's")
    check: bool | None = _key(None, "false: do not compare the file with the network; default true")
    trust: bool = _key(False, "build objects of any package that the checkpoint's config names")
    choices: dict[str, Any] = field(default_factory=dict)


@dataclass
class Sweep:
    """`wsol sweep`."""

    sweep: Search = field(default_factory=Search)
    wandb: bool = _key(False, "print the same search for `wandb sweep`, and stop")
    config_dirs: list[str] = _given()
    choices: dict[str, Any] = field(default_factory=dict)


@dataclass
class Kit:
    """`wsol ilsvrc-kit`."""

    predictions: str | None = _key(
        None,
        "RUN: guesses in the challenge's text format; with out=, the output of `wsol predict` for all its images",
    )
    devkit_synsets: str | None = _key(None, "text file of the synsets of ILSVRC2012_ID 1, 2, ..., one per line")
    out: str | None = _key(None, "write the predictions there in the challenge's format, instead of scoring")
    force: bool = _key(False, "replace that file, if it exists")
    runs_dir: str = _key("runs", "folder of the runs, for runs given by name")
    data_dir: str = _key("data", "folder of the datasets")
    choices: dict[str, Any] = field(default_factory=dict)
    data: Any = _group()
    transform: Any = _group()


@dataclass
class Table:
    """`wsol table`."""

    table: str | None = _key(None, "TABLE: a choice of the group table, or a path that ends in .yaml")
    runs: list[str] = _key([], "RUN ...: use only these runs; default all runs below runs_dir")
    runs_dir: str = _key("runs", "folder of the runs")
    make_missing: bool = _key(False, "make missing runs; continue interrupted ones")
    format: str | None = _key(None, "terminal, markdown, latex, csv or json; by default from the suffix of out")
    shape: str | None = _key(None, "wide: a line for each row; long: a line for each cell; default by format")
    out: str | None = _key(None, "file to write, instead of the screen")
    force: bool = _key(False, "replace that file, if it exists")
    overrides: list[str] = _given()
    config_dirs: list[str] = _given()
    choices: dict[str, Any] = field(default_factory=dict)


@dataclass
class Show:
    """`wsol show`."""

    runs: list[str] = _key([], "RUN ...: runs, or folders that another verb wrote")
    runs_dir: str = _key("runs", "folder of the runs")
    json: bool = _key(False, "print the results file; --json is the same")
    choices: dict[str, Any] = field(default_factory=dict)


@dataclass
class ListRuns:
    """`wsol list`."""

    patterns: list[str] = _key([], "PATTERN ...: only runs whose name, folder, method, backbone or data match one")
    runs_dir: str = _key("runs", "folder of the runs")
    json: bool = _key(False, "print the runs as JSON; --json is the same")
    choices: dict[str, Any] = field(default_factory=dict)


@dataclass
class BackboneCheck:
    """`wsol backbone check`."""

    target: str | None = _key(None, "CLASS: a class such as mypkg.net.MyBackbone, instead of backbone=...")
    speed: bool = _key(True, "compare the speed with that of ResNet-50")
    choices: dict[str, Any] = field(default_factory=dict)
    backbone: Any = _group()


@dataclass
class DataPrepare:
    """`wsol data prepare`."""

    archive: Any = _key(None, "a published archive, or a list of them")
    download: bool = _key(False, "fetch archives with a public address first")
    urls: dict[str, str] = _key({}, "other addresses of archives: {ARCHIVE: URL, ...}")
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


VERBS: dict[str, Any] = {
    "train": Train,
    "ae": Ae,
    "regress": Regress,
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
    "data_prepare": DataPrepare,
    "backbone_check": BackboneCheck,
    "table": Table,
    "show": Show,
    "list": ListRuns,
    "sweep": Sweep,
}


KINDS = {
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "int | None": "a whole number, or null",
    "list[int]": "a list of whole numbers, such as [1,5]",
    "list[int] | None": "a list of whole numbers, such as [1,5], or null",
    "list[str]": "a list, such as [a,b]",
}
"""What keys of these types hold, in words."""


def open_groups(verb: str) -> list[str]:
    """Return the groups of a verb's config in which any key may be set."""
    return [each.name for each in fields(VERBS[verb]) if each.metadata.get("open")]


def keys(verb: str) -> dict[str, Field[Any]]:
    """Return the keys of a verb by name, with the field of each."""
    return {each.name: each for each in fields(VERBS[verb])}


def texts(verb: str) -> frozenset[str]:
    """Return the keys of a verb whose value is a text."""
    return frozenset(name for name, each in keys(verb).items() if each.type in ("str", "str | None"))


def register() -> None:
    """Register the classes with Hydra as ``schema/<verb>``, if Hydra's store lacks them."""
    store = ConfigStore.instance()
    if "schema" in store.repo:
        return
    for name, node in VERBS.items():
        store.store(group="schema", name=name, node=node, package="_global_")
