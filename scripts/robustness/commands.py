"""The commands that are killed, and how their results are compared with those of an uninterrupted run."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.robustness import archives
from scripts.robustness.base import SMALL, Base

DATE = re.compile(r"\d{4}-\d\d-\d\d[T_ ]\d\d[-:]\d\d[-:]\d\d(\.\d+)?(\+00:00|_\d+)?")
NOT_COMPARED = (".tgz", ".pth", ".log", ".lock", ".db", ".sqlite", ".sqlite3", ".journal", ".jsonl")
"""Endings of inputs, and of files that tell of times and attempts."""

TIMES = {"seconds", "written", "machine", "git", "versions", "finished", "started", "duration"}
EPOCHS = "data.train_images=96 trainer.max_epochs=4"


@dataclass(frozen=True)
class Command:
    """A command that goes on, or starts anew, when it is given again.

    Args:
        name: in the table.
        words: ``{f}`` is the folder that is its own, other names are those of the base.
        prepare: makes what it needs in its folder.
        results: what is compared; the tree of its folder if None.
        runs: how many runs it makes one after another, each of which says why it failed.
    """

    name: str
    words: str
    prepare: Callable[[Path, Base], Any] = lambda folder, base: None
    results: Callable[[Path], dict[str, Any]] | None = None
    runs: int = 1

    def line(self, folder: Path, base: Base) -> list[str]:
        """Its words."""
        names = {"f": str(folder), **base.names()}
        return [re.sub(r"\{(\w+)\}", lambda m: names[m[1]], word) for word in self.words.split()]


def _table(folder: Path, base: Base) -> None:
    small = [
        word for word in f"{SMALL} {EPOCHS}".split() if not word.startswith(("experiment", "trainer.max_epochs=1"))
    ]
    (folder / "configs/table").mkdir(parents=True)
    (folder / "configs/table/mine.yaml").write_text(
        "title: a\nsource: b\ncolumns: {c: {metric: gt_known_error, protocol: cam2016, threshold: fixed}}\nrows:\n"
        f"  - {{label: a, experiment: demo, overrides: {json.dumps(small)}}}\n"
        f"  - {{label: b, experiment: demo_acol, overrides: {json.dumps(small)}}}\n"
    )


def _archive(folder: Path, base: Base) -> None:
    images, lines = 1500, {"images": [], "image_class_labels": [], "bounding_boxes": [], "train_test_split": []}
    folder.mkdir(parents=True, exist_ok=True)
    jpeg = archives.good()["images/001.a/a.jpg"]
    with tarfile.open(folder / archives.TGZ, "w:gz", compresslevel=1) as made:
        for k in range(1, images + 1):
            archives._add(made, f"CUB_200_2011/images/001.a/{k}.jpg", jpeg)
            for name, row in zip(
                lines, (f"{k} 001.a/{k}.jpg", f"{k} 1", f"{k} 2 2 20 20", f"{k} {k % 2}"), strict=True
            ):
                lines[name].append(row)
        for name, rows in {**lines, "classes": ["1 001.a"]}.items():
            archives._add(made, f"CUB_200_2011/{name}.txt", "\n".join(rows).encode())


def _weights(folder: Path, base: Base) -> None:
    import torchvision

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(num_classes=2).state_dict(), folder / "weights.pth")


def _run(folder: Path, base: Base) -> None:
    shutil.copytree(base.path("run"), folder / "run")


def _trials(folder: Path) -> dict[str, Any]:
    """Of a search: finished trials, and epochs of each. The draws of a continued search may differ."""
    trials = sorted(path.parent for path in (folder / "study").glob("trials/*/results.json"))
    rows = [len((trial / "metrics.csv").read_text().splitlines()) for trial in trials]
    return {"trials": len(trials), "rows": rows}


TRAIN = f"train {SMALL} {EPOCHS} data_dir={{data}} runs_dir={{f}}/runs resume=true".replace("trainer.max_epochs=1 ", "")

COMMANDS = (
    Command("train", TRAIN),
    Command(
        "eval save_maps=true",
        "eval run={run} save_maps=true out={f}/evaluation trainer.accelerator=cpu data_dir={data}",
    ),
    Command(
        "table make_missing=true",
        "table mine make_missing=true --config-dir {f}/configs runs_dir={f}/runs data_dir={data}",
        _table,
        runs=2,
    ),
    Command("data prepare", f"data prepare data=cub archive={{f}}/{archives.TGZ} data.root={{f}}/CUB", _archive),
    Command(
        "convert",
        "convert weights={f}/weights.pth backbone=resnet18 data=folder data.root={photos} out={f}/run",
        _weights,
    ),
    Command("report", "report {f}/run out={f}/page data_dir={data}", _run),
    Command(
        "creatures",
        "data verify data=creatures data.train_images=300 data.val_images=100 data.test_images=100 data_dir={f}/data",
    ),
    Command(
        "sweep",
        f"sweep sweep=lr sweep.trials=2 sweep.workers=2 sweep.folder={{f}}/study data_dir={{data}} {SMALL}",
        results=_trials,
    ),
)


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, times and paths taken out: a digest by name. A second of a name is told apart."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.suffix in NOT_COMPARED:
            continue
        name = DATE.sub("<date>", path.relative_to(folder).as_posix())
        while name in found:
            name += " again"
        found[name] = _digest(path, folder)
    return found


def _digest(path: Path, folder: Path) -> str:
    if path.suffix == ".ckpt":
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        parts = [part for key in sorted(state) for part in (key.encode(), state[key].numpy().tobytes())]
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            parts = [part for key in sorted(arrays) for part in (key.encode(), arrays[key].tobytes())]
    elif path.name == ".wsol-run.json":  # with a checksum of config.yaml, which names the folder
        parts = [json.dumps({**json.loads(path.read_text()), "config_sha256": None}, sort_keys=True).encode()]
    elif path.name == "results.json":
        parts = [json.dumps(_without_times(json.loads(path.read_text())), sort_keys=True).encode()]
    elif path.suffix in (".json", ".js", ".html", ".yaml", ".csv", ".txt"):
        parts = [path.read_text(errors="replace").encode()]
    else:
        parts = [path.read_bytes()]
    if path.name == ".unpacked.json":
        parts = [re.sub(rb'"mtime_ns": \d+|"(sha256|md5)": "\w+"|"size": \d+', b"", parts[0])]
    text = b"".join(parts).replace(str(folder).encode(), b"<folder>")
    if path.suffix not in (".ckpt", ".npz", ".bin"):
        text = DATE.sub("<date>", text.decode("latin-1")).encode("latin-1")
    return hashlib.sha256(text).hexdigest()[:16]


def _without_times(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_times(value) for key, value in node.items() if key not in TIMES}
    return [_without_times(value) for value in node] if isinstance(node, list) else node


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is lost, what is left behind, and what differs."""
    lost = [f"lost {name}" for name in before if name not in after]
    more = [f"left behind {name}" for name in after if name not in before]
    other = [f"{name} differs" for name in before if name in after and before[name] != after[name]]
    return [*lost, *other, *more]
