"""The verbs: the purpose, arguments and config of each. A new verb is an entry here, a file and a YAML file."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Positional:
    """The words of a command line that set no key."""

    usage: str
    about: str
    keys: tuple[str, ...] = ()
    """Config keys that the words set, one after the other."""
    rest: str | None = None
    """Config key that takes a list of all further words."""
    runs: tuple[str, ...] = ()
    """The keys among these that name runs."""


@dataclass(frozen=True)
class Verb:
    """One verb of the command line."""

    summary: str
    config: str
    """Its root config, and its module in `wsol.cli.verbs`, whose function ``run`` takes the composed config."""
    example: str
    takes: Positional | None = None
    out: str | None = "out"
    """The config key that ``--out`` sets."""
    passes_on: str | None = None
    """Config key for the words that set none of the verb's own keys but keys of `wsol train`."""
    is_first: bool = False
    """Whether it is in the first list of ``wsol --help``."""
    needs_torch: bool = True
    resumes: bool = False
    """Whether it has the key ``resume``."""
    interrupted: str = "its unfinished output is not kept; give the same command again"
    """What it leaves when it is interrupted, and how to continue."""

    def load(self) -> Callable[..., int]:
        """Import the verb's code and return its ``run``."""
        return importlib.import_module(f"wsol.cli.verbs.{self.config}").run


NOTHING_WRITTEN = "it writes nothing; give the same command again"
A_RUN = "a run's folder, the name of runs (the newest is used), last (the newest of all), or a checkpoint file"
ONE_RUN = Positional("RUN", A_RUN, keys=("run",), runs=("run",))
GOES_ON = Positional(
    "[RUN]",
    "the run to continue with the keys of its command: a folder, a name, or last",
    keys=("resume",),
    runs=("resume",),
)

VERBS = {
    "train": Verb(
        "train a localizer and evaluate it",
        "train",
        "wsol train data=cub data.root=data/CUB_200_2011 backbone=vgg16",
        GOES_ON,
        out="run_dir",
        is_first=True,
        resumes=True,
    ),
    "eval": Verb(
        "evaluate a trained localizer", "eval", "wsol eval last protocol=all save_maps=true", ONE_RUN, is_first=True
    ),
    "predict": Verb(
        "predict class, score, box and map of images",
        "predict",
        "wsol predict demo-cam images=photos",
        ONE_RUN,
        is_first=True,
    ),
    "score": Verb(
        "score saved maps under any protocol, without a network",
        "score",
        "wsol score maps data=cub_lists protocol=all",
        Positional(
            "RUN [RUN]",
            "saved maps: a run or an evaluation with save_maps=true, or a folder of maps; with two, they are compared",
            keys=("maps", "against"),
            runs=("maps", "against"),
        ),
        is_first=True,
    ),
    "report": Verb(
        "write a page that shows where one or several runs are correct or wrong, at any threshold",
        "report",
        "wsol report demo-cam demo-acol",
        Positional(
            "RUN ...",
            "a run, or an evaluation with save_maps=true; a run without saved maps of the split computes them once",
            rest="runs",
            runs=("runs",),
        ),
        is_first=True,
    ),
    "table": Verb(
        "print the numbers of a paper beside those of your runs, and make the missing runs",
        "table",
        "wsol table cam2016-2 make_missing=true data_dir=/datasets",
        Positional(
            "TABLE [RUN ...]",
            "a choice of the group table, or a path that ends in .yaml; with runs, only these are used",
            keys=("table",),
            rest="runs",
            runs=("runs",),
        ),
        passes_on="overrides",
        is_first=True,
        interrupted="runs that make_missing=true has started are kept; give the same command again to continue",
    ),
    "sweep": Verb(
        "search hyperparameters over any keys of wsol train",
        "sweep",
        "wsol sweep sweep=lr sweep.trials=30 data=cub data.root=data/CUB_200_2011",
        out="sweep.folder",
        passes_on="sweep.overrides",
        is_first=True,
        needs_torch=False,
        interrupted="all trials are kept; give the same command again to continue",
    ),
    "list": Verb(
        "list the runs: name, time, method, backbone, data, main results",
        "list",
        "wsol list 'demo*'",
        Positional("[PATTERN ...]", "part of a name, folder or choice, or a pattern such as 'demo*'", rest="patterns"),
        out=None,
        is_first=True,
        needs_torch=False,
        interrupted=NOTHING_WRITTEN,
    ),
    "show": Verb(
        "print the results of runs again",
        "show",
        "wsol show last",
        Positional("RUN ...", "a run, or a folder that another verb wrote", rest="runs", runs=("runs",)),
        out=None,
        is_first=True,
        needs_torch=False,
        interrupted=NOTHING_WRITTEN,
    ),
    "ae": Verb(
        "train, erase the found regions, train again, and merge the maps (adversarial erasing)",
        "ae",
        "wsol ae data=cub data.root=data/CUB_200_2011 backbone=vgg16 method=cam_conv rounds=3 threshold=0.8",
        GOES_ON,
        out="run_dir",
        resumes=True,
    ),
    "regress": Verb(
        "find pseudo boxes by a localizer, and train a box regressor on them",
        "regress",
        "wsol regress data=cub backbone=resnet50 localizer.train=[method=cam,backbone=vgg16]",
        GOES_ON,
        out="run_dir",
        resumes=True,
    ),
    "convert": Verb(
        "turn weights of another program into a checkpoint",
        "convert",
        "wsol convert last_checkpoint.pth.tar output_stride=16 data=cub_lists",
        Positional(
            "WEIGHTS", "a file of another program, or a checkpoint or run of this one", ("weights",), runs=("weights",)
        ),
    ),
    "export": Verb(
        "write a network for other programs: ONNX, torch.export, safetensors",
        "export",
        "wsol export demo-cam format=onnx",
        ONE_RUN,
    ),
    "features svm": Verb(
        "classify any images by a linear SVM on a network's features, whole or cropped",
        "svm",
        "wsol features svm demo-cam crops=[whole,map,box] data=cub",
        ONE_RUN,
    ),
    "features units": Verb(
        "show the most important units of each class, and where images activate them",
        "units",
        "wsol features units demo-cam",
        ONE_RUN,
    ),
    "features concept": Verb(
        "learn a concept from two folders of images, and show where images have it",
        "concept",
        "wsol features concept demo-cam positives=with negatives=without",
        ONE_RUN,
    ),
    "data prepare": Verb(
        "unpack a dataset's published archives into the expected layout",
        "data_prepare",
        "wsol data prepare data=cub archive=CUB_200_2011.tgz",
        out="data.root",
        interrupted="files that are unpacked are kept; give the same command again to continue",
    ),
    "data verify": Verb(
        "read a dataset and report its contents and faults",
        "data_verify",
        "wsol data verify data=cub data.root=data/CUB_200_2011",
        out=None,
        interrupted=NOTHING_WRITTEN,
    ),
    "backbone check": Verb(
        "test a backbone against the contract: points, weights, gradients, maps, precision, speed",
        "backbone_check",
        "wsol backbone check mypkg.net.MyBackbone backbone.width=8",
        Positional("[CLASS]", "a class such as mypkg.net.MyBackbone, in place of backbone=...", ("target",)),
        out=None,
        interrupted=NOTHING_WRITTEN,
    ),
    "ilsvrc-kit": Verb(
        "score guesses in the ILSVRC challenge's text format by its own rule, or write them for its server",
        "kit",
        "wsol ilsvrc-kit guesses.txt devkit_synsets=synsets.txt data.blacklist=blacklist.txt",
        Positional(
            "RUN",
            "guesses in the challenge's format; with --out, what `wsol predict` wrote (a folder, or a run: its newest)",
            ("predictions",),
            runs=("predictions",),
        ),
    ),
}
