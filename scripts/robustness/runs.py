"""What runs leave behind, damaged: results.json, config.yaml, image_results.npz, metrics.csv, checkpoints at resume."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scripts.robustness.base import SMALL
from scripts.robustness.checkpoints import flip, flipped
from scripts.robustness.runner import Place, Try

KIND = "results.json, config.yaml, image_results.npz of runs"
RESUME = "metrics.csv and checkpoints at resume"
TABLE = "table mine --config-dir {inputs} runs_dir={out}/runs format=markdown data_dir={data}"
REPORT = "report {out}/runs/a out={out}/page"
TRAIN = f"train {SMALL} data_dir={{data}} runs_dir={{out}}/runs resume=true"
SAME = f"train {SMALL} data_dir={{data}} run_dir={{out}}/runs/a resume=true"

LAYOUT = f"""
title: errors
source: none
columns:
  fixed: {{metric: gt_known_error, protocol: cam2016, threshold: fixed}}
  top-1: {{metric: top1_error, of: classification}}
  PxAP: {{metric: PxAP, of: pixels}}
rows:
  - {{label: CAM, experiment: demo, overrides: {json.dumps(SMALL.split()[1:])}}}
  - {{label: the same again, experiment: demo, overrides: {json.dumps(SMALL.split()[1:])}}}
"""

ODD: dict[str, Any] = {"null": None, "a number": 5, "text": "x", "a list": [5], "a mapping": {"a": 1}, "[{}]": [{}]}
KEYS = ("localization", "classification", "classification.test", "classification.test.top1_error", "pixels", "data")
MORE_KEYS = ("splits", "classes", "choices", "seed")


def tries() -> Iterator[Try]:
    """All of them."""
    yield from _results()
    yield from _configs()
    yield from _image_results()
    yield from _resumed()


def run_with(change: Callable[[Path], Any], *, finished: bool = True) -> Callable[[Place], None]:
    """A copy of the run in ``out/runs/a``, changed; unfinished, it has neither results nor maps."""

    def make(place: Place) -> None:
        run = place.out / "runs/a"
        shutil.copytree(place.base.path("run"), run)
        table = place.inputs / "table"
        table.mkdir()
        (table / "mine.yaml").write_text(LAYOUT)
        if not finished:
            for name in ("results.json", "image_results.npz", "pictures.png"):
                (run / name).unlink(missing_ok=True)
        change(run)
        old = time.time() - 3600
        for file in run.rglob("*"):
            if file.is_file() and not file.is_symlink():
                os.utime(file, (old, old))

    return make


def _nested(path: str, value: Any) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        tree = json.loads((run / "results.json").read_text())
        node = tree
        *parents, last = path.split(".")
        for name in parents:
            node = node[name]
        node[last] = value
        (run / "results.json").write_text(json.dumps(tree))

    return change


def _text(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda run: (run / name).write_text(change((run / name).read_text()))


def _bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes(change((run / name).read_bytes()))


def _results() -> Iterator[Try]:
    names = ("results.json", "runs/a")
    for act in (TABLE, REPORT):
        yield Try(KIND, "nothing wrong", run_with(lambda run: None), act, "accepted")
    for key in (*KEYS, *MORE_KEYS):
        for what, value in ODD.items():
            right = "noted" if key in KEYS and what != "a mapping" and key != "data" else "either"
            if key.endswith("top1_error") and what in ("null", "a number"):  # not measured, and an error of 5 percent
                right = "either"
            yield Try(KIND, f"{key} is {what}", run_with(_nested(key, value)), TABLE, right, names)
            if what in ("null", "text") and key in KEYS[:2]:
                yield Try(KIND, f"{key} is {what}", run_with(_nested(key, value)), REPORT, "either", names)
    for key in ("gt_known_error", "protocol", "split", "maps", "threshold_origin", "images"):
        for what in ("null", "text", "a list"):
            change = _row(key, ODD[what])
            right = "noted" if key == "gt_known_error" and what != "null" else "either"
            yield Try(KIND, f"a row's {key} is {what}", run_with(change), TABLE, right, names)
    for what, number in {"-5": -5.0, "1e308": 1e308, "NaN": float("nan"), "101": 101.0, "true": True}.items():
        for key in ("classification.test.top1_error",):
            yield Try(KIND, f"{key} is {what}", run_with(_nested(key, number)), TABLE, "noted", names)
        yield Try(
            KIND, f"a row's gt_known_error is {what}", run_with(_row("gt_known_error", number)), TABLE, "noted", names
        )
    texts: dict[str, Callable[[str], str]] = {
        "empty": lambda text: "", "cut in half": lambda text: text[: len(text) // 2], "text": lambda text: "hello",
        "a list": lambda text: "[]", "a number": lambda text: "5", "null": lambda text: "null",
        "100,000 brackets": lambda text: "[" * 100_000, "an empty mapping": lambda text: "{}",
        "a number of 6,000 digits": lambda text: "9" * 6000, "UTF-16": lambda text: "\ufeff" + text[:3] + "\0",
    }  # fmt: skip
    for what, change in texts.items():
        for act in (TABLE, REPORT):
            right = "noted" if act is TABLE else "either"
            yield Try(KIND, f"results.json is {what}", run_with(_text("results.json", change)), act, right, names)
    for what, special in {"a FIFO": os.mkfifo, "a folder": os.mkdir}.items():
        made = run_with(lambda run, s=special: ((run / "results.json").unlink(), s(run / "results.json")))
        yield Try(KIND, f"results.json is {what}", made, TABLE, "either", names)


def _row(key: str, value: Any) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        tree = json.loads((run / "results.json").read_text())
        for row in tree["localization"]:
            row[key] = value
        (run / "results.json").write_text(json.dumps(tree))

    return change


def _configs() -> Iterator[Try]:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{k + 1}: &a{k + 1} [{', '.join([f'*a{k}'] * 9)}]\n" for k in range(9))
    texts: dict[str, Callable[[str], str]] = {
        "empty": lambda text: "",
        "cut in the middle": lambda text: text[: len(text) // 2] + "\n  - {",
        "with a NUL": lambda text: text[:50] + "\0" + text[50:],
        "with tabs": lambda text: text.replace("  ", "\t"),
        "with a duplicate key": lambda text: text + "\nseed: 1\nseed: 2\n",
        "with a foreign tag": lambda text: text + "\nx: !!python/object/apply:os.system ['touch CANARY']\n",
        "an alias bomb": lambda text: bomb,
        "with an alias bomb": lambda text: text + bomb,
        "a list": lambda text: "- 1\n",
        "a number": lambda text: "5\n",
        "with seed: abc": lambda text: text.replace("seed: 0", "seed: abc", 1),
        "with an interpolation that leads nowhere": lambda text: text + "\nx: ${b}\n",
        "with oc.env": lambda text: text.replace("seed: 0", "seed: ${oc.env:HOME}", 1),
        "of another program": lambda text: "services:\n  web: {image: nginx}\n",
        "without data": lambda text: text.replace("\ndata:", "\ndatum:", 1),
        "with data: null": lambda text: text.replace("\ndata:\n", "\ndata: null\nold:\n", 1),
        "20,000 levels": lambda text: "a: " + "[" * 20_000,
    }
    for what, change in texts.items():
        for act in (TABLE, REPORT, TRAIN):
            make = run_with(_text("config.yaml", change), finished=act is not TRAIN)
            yield Try(KIND, f"config.yaml is {what}", make, act, "either", ("config.yaml",))
    for act in (TABLE, REPORT, TRAIN):
        fifo = run_with(lambda run: ((run / "config.yaml").unlink(), os.mkfifo(run / "config.yaml")))
        yield Try(KIND, "config.yaml is a FIFO", fifo, act, "either", ("config.yaml", "runs/a"))
        bad = run_with(_bytes("config.yaml", lambda raw: b"\xff\xfe" + raw))
        yield Try(KIND, "config.yaml is no UTF-8", bad, act, "either", ("config.yaml",))


def _image_results() -> Iterator[Try]:
    def arrays(change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
        def apply(run: Path) -> None:
            with np.load(run / "image_results.npz") as file:
                content = dict(file)
            change(content)
            np.savez(run / "image_results.npz", **content)

        return apply

    cases: dict[str, Callable[[Path], None]] = {
        "empty": _bytes("image_results.npz", lambda raw: b""),
        "cut": _bytes("image_results.npz", lambda raw: raw[: len(raw) // 2]),
        "text": _bytes("image_results.npz", lambda raw: b"hello"),
        "flipped": _bytes("image_results.npz", flipped(0.5)),
        "of another image less": arrays(lambda a: a.update({k: v[1:] for k, v in a.items() if k.endswith("ranks")})),
        "of ranks of text": arrays(lambda a: a.update({k: v.astype(str) for k, v in a.items() if k.endswith("ranks")})),
        "of pickled objects": arrays(lambda a: a.update({"test/ranks": np.array([{}] * 16, dtype=object)})),
        "of no arrays": arrays(lambda a: a.clear()),
    }
    for what, change in cases.items():
        value = None if what == "of no arrays" else _noted
        yield Try(
            KIND, f"image_results.npz is {what}", run_with(change), TABLE, "either", ("image_results.npz",), value
        )


def _noted(place: Place, outcome: Any) -> bool:
    return "image_results" in outcome.said


def _resumed() -> Iterator[Try]:
    csv: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
        "as it is": ("accepted", lambda raw: raw),
        "empty": ("refused", lambda raw: b""),
        "a header alone": ("noted", lambda raw: raw.split(b"\n")[0] + b"\n"),
        "cut in a row": ("refused", lambda raw: raw[:-20]),
        "with a step of text": ("refused", lambda raw: raw.replace(b"\n0,1,", b"\n0,x,")),
        "with a step of NaN": ("refused", lambda raw: raw.replace(b"\n0,1,", b"\n0,nan,")),
        "no UTF-8": ("refused", lambda raw: raw + b"0,2,\xff\n"),
        "with a NUL": ("refused", lambda raw: raw + b"0,2,\0\n"),
        "with fields too many": ("refused", lambda raw: raw.rstrip(b"\n") + b",1,2,3\n"),
        "without step": ("refused", lambda raw: raw.replace(b"step", b"stop", 1)),
        "of another program": ("refused", lambda raw: b"a;b\n1;2\n"),
        "with a field of 300,000 letters": ("refused", lambda raw: raw + b"a" * 300_000 + b"\n"),
    }
    for what, (right, change) in csv.items():
        made = run_with(_bytes("metrics.csv", change), finished=False)
        held = "either" if right == "refused" else right  # refused, or whole again
        value = None if right == "noted" else _whole
        yield Try(RESUME, f"metrics.csv {what}", made, SAME, held, ("metrics.csv",), value)
    last = "checkpoints/last.ckpt"
    checkpoints: dict[str, Callable[[Path], Any]] = {
        "empty": _bytes(last, lambda raw: b""),
        "cut": _bytes(last, lambda raw: raw[: len(raw) // 2]),
        "text": _bytes(last, lambda raw: b"hello"),
        "flipped in the weights": _bytes(last, flipped(0.6)),
        "flipped at its end": _bytes(last, lambda raw: flip(raw, len(raw) - 30)),
        "a FIFO": lambda run: ((run / last).unlink(), os.mkfifo(run / last)),
        "a folder": lambda run: ((run / last).unlink(), (run / last).mkdir()),
        "missing": lambda run: (run / last).unlink(),
        "missing, with all checkpoints": lambda run: shutil.rmtree(run / "checkpoints"),
    }
    for what, spoil in checkpoints.items():
        made = run_with(spoil, finished=False)
        yield Try(RESUME, f"last.ckpt {what}", made, SAME, "either", ("last.ckpt", "checkpoints"), _whole)


def _whole(place: Place, outcome: Any) -> bool:
    """Whether the run is the one that was never interrupted: the same metrics, the same errors."""
    run, base = place.out / "runs/a", place.base.path("run")
    if (run / "metrics.csv").read_text() != (base / "metrics.csv").read_text():
        return False
    return all(
        json.loads((run / "results.json").read_text())[key] == json.loads((base / "results.json").read_text())[key]
        for key in ("classification", "localization")
    )
