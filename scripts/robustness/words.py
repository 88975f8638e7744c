"""Words of the command line that nobody should type, and what the message must name."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.robustness.base import SMALL
from scripts.robustness.runner import Try, nothing

KIND = "words of the command line"
TRAIN: dict[str, tuple[str, ...]] = {
    "backbone=tinny": ("tinny",), "backbone=": ("backbone",),
    "method=acoll": ("acoll",), "data=../../etc": ("data",),
    "nonsense=1": ("nonsense",), "+nonsense=1": ("nonsense",), "~data": ("data",),
    "seed=x": ("seed",), "seed=-1": ("seed",), "seed=1e400": ("seed",),
    "seed=99999999999999999999": ("seed",), "trainer.max_epochs=0": ("max_epochs",),
    "trainer.max_epochs=-1": ("max_epochs",), "trainer.max_epochs=x": ("max_epochs",),
    "trainer.accelerator=abacus": ("accelerator",),
    "trainer.precision=3": ("precision",), "optim.optimizer.lr=x": ("lr",),
    "optim.optimizer.lr=-1": ("lr", "learning rate"), "optim.optimizer.lr=nan": ("lr", "loss", "finite"),
    "optim.optimizer.lr=1e12": ("lr", "loss", "finite"), "optim.optimizer.momentum=-1": ("momentum",),
    "loader.batch_size=0": ("batch_size",), "loader.batch_size=-4": ("batch_size",),
    "loader.batch_size=x": ("batch_size",), "loader.num_workers=-1": ("num_workers",),
    "image_size=0": ("image_size", "size"), "image_size=-32": ("image_size", "size"),
    "image_size=1000000000": ("size", "memory"), "topk=[0]": ("topk",), "topk=[99]": ("top",),
    "topk=x": ("topk",), "monitor=nobody": ("nobody",),
    "monitor=test/top1_error": ("monitor",), "memory_format=x": ("memory_format",),
    "data.train_images=0": ("train_images",), "data.train_images=-5": ("train_images",),
    "data.size=0": ("size",), "data.num_classes=0": ("num_classes",),
    "protocol=[nobody]": ("nobody",), "protocol=[]": ("protocol",),
    "experiment=nobody": ("nobody",), "resume=/nobody": ("nobody",),
    "label_smoothing=2": ("label_smoothing",), "=1": ("key=value", "override"), "word": ("word",),
    "--nobody": ("--nobody",), "a=[": ("key",), "seed=${nobody}": ("nobody",),
    "seed=${oc.env:NOBODY}": ("NOBODY",), "hydra.run.dir=/tmp": ("hydra",),
    "name=../../../../tmp/CANARY-wsol": ("name",), "schedule=nobody": ("nobody",),
}  # fmt: skip
"""Words behind `wsol train`, and what the message names."""
EITHER = (
    "+nonsense=1",
    "protocol=[]",
    "name=../../../../tmp/CANARY-wsol",
    "~data",
    "image_size=1000000000",
    "topk=[99]",
)
"""Those of `TRAIN` that may be accepted."""
COMMANDS = {
    "tarin": ("tarin",), "": ("usage",), "data": ("data verify",), "data verfy": ("data",), "eval": ("run",),
    "eval run=/nobody": ("nobody",), "predict": ("images",), "predict run={run}": ("images",),
    "predict run={run} images=/nobody": ("nobody",), "predict run={run} images={image} top=0 out={out}/p": ("top",),
    "predict run={run} images={image} threshold=2 out={out}/p": ("threshold",),
    "predict run={run} images={image} classes=[nobody] out={out}/p": ("nobody",),
    "predict run={run} images={image} device=abacus out={out}/p": ("device", "abacus"),
    "predict run={run} images={image} maps=bmp out={out}/p": ("maps",),
    "predict run={run} images={image} batch_size=0 out={out}/p": ("batch_size",),
    "predict run={run} images={image} image_size=-1 out={out}/p": ("size",), "score": ("maps",),
    "score maps=/nobody": ("nobody",), "score maps={evaluation}/maps split=nobody out={out}/s": ("nobody",),
    "score maps={evaluation}/maps view=nobody out={out}/s": ("nobody",),
    "score maps={evaluation}/maps missing=nobody out={out}/s": ("missing",),
    "score maps={evaluation}/maps pseudo_boxes=/nobody out={out}/s": ("nobody",), "report": ("run",), "report /nobody": ("nobody",),
    "report {run} split=nobody out={out}/r": ("split",), "report {run} limit=0 out={out}/r": ("limit",),
    "report {run} picture_side=5 out={out}/r": ("picture_side",), "export run={run} format=nobody out={out}/x": ("format",),
    "convert": ("weights",), "convert weights=/nobody": ("nobody",), "table nobody": ("nobody",),
    "table demo format=nobody": ("nobody",), "table": ("table",), "sweep sweep=nobody": ("nobody",),
    "data verify": ("data",), "data verify data=cub data.root=/nobody": ("nobody",), "data prepare data=nobody": ("nobody",),
    "data prepare data=cub": ("archive",), "data prepare data=cub archive=/nobody.tgz": ("nobody.tgz",),
    "backbone check nobody.Nobody": ("nobody",), "ilsvrc-kit": ("predictions",), "features units": ("run",), "features concept": ("positives", "run"),
    "features svm run=/nobody": ("nobody",), "train --config-dir /nobody": ("nobody",), "train -m seed=a,b": ("seed",),
}  # fmt: skip
"""What follows `wsol`, and what the message names."""
ACCEPTED = ("", "data verify")
"""Those of `COMMANDS` that are right; the built-in dataset is verified."""


def tries() -> Iterator[Try]:
    """All of them."""
    small = f"{SMALL} data_dir={{data}} run_dir={{out}}/run"
    for word, names in TRAIN.items():
        right = "either" if word in EITHER else "refused"
        yield Try(KIND, f"train {word}", nothing, f"train {small} {word}", right, names)
    for words, names in COMMANDS.items():
        right = "accepted" if words in ACCEPTED else "refused"
        yield Try(KIND, f"wsol {words}", nothing, words or "--help", right, names)
