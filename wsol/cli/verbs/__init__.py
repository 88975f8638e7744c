"""The verbs: what each is for, its config, and where its code lies. A new verb is one line here and one file."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """One verb of the command line."""

    summary: str
    module: str
    """Module with a function ``run``: of the composed config, or of the words where the verb has no config."""
    config: str | None
    example: str
    resumes: bool = False
    """Whether it has the key ``resume``."""
    interrupted: str = "what it was writing is not kept; give the same command again"
    """What an interrupted one leaves, and how to go on."""

    def load(self) -> Callable[..., int]:
        """Import the verb's code and return its ``run``."""
        return importlib.import_module(self.module).run


VERBS = {
    "train": Verb(
        "train a localizer and judge it",
        "wsol.cli.verbs.train",
        "train",
        "wsol train data=cub data.root=data/CUB_200_2011 backbone=vgg16",
        resumes=True,
    ),
    "ae": Verb(
        "train, erase what was found, train again, and merge the maps (adversarial erasing)",
        "wsol.cli.verbs.ae",
        "ae",
        "wsol ae data=cub data.root=data/CUB_200_2011 backbone=vgg16 method=cam_conv rounds=3 threshold=0.8",
        resumes=True,
    ),
    "eval": Verb(
        "judge a trained localizer", "wsol.cli.verbs.eval", "eval", "wsol eval run=runs/demo-cam/2026-01-31_12-00-00"
    ),
    "predict": Verb(
        "find class, score, box and map of pictures",
        "wsol.cli.verbs.predict",
        "predict",
        "wsol predict run=runs/demo-cam/2026-01-31_12-00-00 images=photos",
    ),
    "score": Verb(
        "score saved maps under any protocol, without a network",
        "wsol.cli.verbs.score",
        "score",
        "wsol score maps=maps data=cub_lists protocol=all",
    ),
    "report": Verb(
        "write a page to look at: where one or several runs are right and wrong, at any threshold",
        "wsol.cli.verbs.report",
        None,
        "wsol report runs/demo-cam/2026-01-31_12-00-00 runs/demo-acol/2026-01-31_12-05-00",
    ),
    "svm": Verb(
        "classify any images by a linear SVM on a network's features, whole or cropped",
        "wsol.cli.verbs.svm",
        "svm",
        "wsol svm run=runs/demo-cam/2026-01-31_12-00-00 crops=[whole,map,box] data=cub",
    ),
    "units": Verb(
        "show the units that speak for each class, and where images activate them",
        "wsol.cli.verbs.units",
        "units",
        "wsol units run=runs/demo-cam/2026-01-31_12-00-00",
    ),
    "concept": Verb(
        "learn a concept from two folders of images, and show where pictures have it",
        "wsol.cli.verbs.concept",
        "concept",
        "wsol concept run=runs/demo-cam/2026-01-31_12-00-00 positives=with negatives=without",
    ),
    "convert": Verb(
        "turn weights of another program into a checkpoint",
        "wsol.cli.verbs.convert",
        "convert",
        "wsol convert weights=last_checkpoint.pth.tar output_stride=16 data=cub_lists",
    ),
    "export": Verb(
        "take a network elsewhere: ONNX, torch.export, safetensors",
        "wsol.cli.verbs.export",
        "export",
        "wsol export run=runs/demo-cam/2026-01-31_12-00-00 format=onnx",
    ),
    "table": Verb(
        "print the numbers of a paper beside those of your runs, and make the missing runs",
        "wsol.cli.verbs.table",
        None,
        "wsol table cam2016-2",
        interrupted="runs that --run has begun are kept; give the same command again to go on",
    ),
    "sweep": Verb(
        "search hyperparameters over any keys of train",
        "wsol.cli.verbs.sweep",
        None,
        "wsol sweep sweep=lr data=cub data.root=data/CUB_200_2011",
        interrupted="all trials are kept; give the same command again to go on",
    ),
    "backbone check": Verb(
        "hold a backbone to the contract: points, weights, gradients, maps, precision, speed",
        "wsol.cli.verbs.backbone_check",
        None,
        "wsol backbone check mypkg.net.MyBackbone",
        interrupted="it writes nothing; give the same command again",
    ),
    "kit": Verb(
        "score guesses in the ILSVRC challenge's text format by its own rule, or write them for its server",
        "wsol.cli.verbs.kit",
        "kit",
        "wsol kit predictions=guesses.txt devkit_synsets=synsets.txt data.blacklist=blacklist.txt",
    ),
    "data verify": Verb(
        "read a dataset and report what is there and what is wrong",
        "wsol.cli.verbs.data_verify",
        "data_verify",
        "wsol data verify data=cub data.root=data/CUB_200_2011",
        interrupted="it writes nothing; give the same command again",
    ),
    "data prepare": Verb(
        "unpack a dataset's published archives into the expected layout",
        "wsol.cli.verbs.data_prepare",
        None,
        "wsol data prepare cub --archive CUB_200_2011.tgz",
        interrupted="files that are unpacked are kept; give the same command again to go on",
    ),
}
