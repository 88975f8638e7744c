"""`wsol eval classes=...`: another classifier's classes, this network's boxes."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from tests.conftest import SMALL_RUN
from wsol.cli import main
from wsol.data.datasets.creatures import Creatures
from wsol.engine import image_results

QUICK = ["num_workers=0", "trainer.accelerator=cpu"]
SCRIPT = Path(sys.executable).with_name("wsol")


def evaluated(run: Path, out: Path, *words: str) -> dict:
    assert main(["eval", f"run={run}", f"out={out}", *QUICK, *words]) == 0
    return json.loads((out / "results.json").read_text())


def own_rows(results: dict, split: str = "test") -> list[dict]:
    """The localizer's rows, without the intervals."""
    rows = [row for row in results["localization"] if row["maps"] == "localizer" and row["split"] == split]
    return [{key: value for key, value in row.items() if key != "intervals"} for row in rows]


def source(run: Path) -> Creatures:
    data = OmegaConf.to_container(OmegaConf.load(run / "config.yaml").data)
    return Creatures(**{key: value for key, value in data.items() if key != "_target_"})


def classes_csv(run: Path, file: Path, shift: int, top: int = 5, split: str = "test") -> Path:
    """Of each image ``top`` classes, the true one at rank ``shift``; by name or index, in any order."""
    about = source(run)
    rows = [
        (name, about.classes[label] if rank % 2 else label, -rank)
        for name, true in zip(about.split(split).ids, about.split(split).labels.tolist(), strict=True)
        for rank in range(top)
        for label in [(true + rank - shift) % len(about.classes)]
    ]
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([("image_id", "class", "score"), *reversed(rows)])
    return file


@pytest.fixture(scope="module")
def second_run(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """Another network, of another input size."""
    folder = tmp_path_factory.mktemp("second") / "run"
    words = ["seed=5", "image_size=40", "data.size=32", "trainer.max_epochs=3"]
    small = [word for word in SMALL_RUN if not word.startswith(("image_size", "trainer.max_epochs"))]
    assert main(["train", *small, *words, f"data_dir={data_dir}", f"run_dir={folder}"]) == 0
    return folder


@pytest.mark.parametrize(
    ("transform", "shifts"),
    [([], (0, 3, 5)), (["transform=ten_crop", "image_size=28"], (3,))],
    ids=["whole", "ten crops"],
)
def test_a_top_k_error_asks_for_the_others_classes_and_the_own_box(
    finished_run: Path, tmp_path: Path, transform: list[str], shifts: tuple[int, ...]
) -> None:
    own = own_rows(evaluated(finished_run, tmp_path / "own", "protocol=all", *transform))
    for shift in shifts:
        top1, top5 = shift == 0, shift < 5
        file = classes_csv(finished_run, tmp_path / f"{shift}.csv", shift)
        results = evaluated(finished_run, tmp_path / str(shift), "protocol=all", f"classes={file}", *transform)
        assert results["classification"]["test"] == {"top1_error": 100.0 - 100 * top1, "top5_error": 100.0 - 100 * top5}
        rows = own_rows(results)
        assert len(rows) == len(own) > 10
        for before, row in zip(own, rows, strict=True):
            for key in ("protocol", "threshold_origin", "threshold", "gt_known_error"):
                assert row[key] == before[key], "classes move no map and no threshold"
            assert row["top1_error"] == (row["gt_known_error"] if top1 else 100.0)
            if row["protocol"] != "cam2016-code":
                assert row["top5_error"] == (row["gt_known_error"] if top5 else 100.0)
            else:  # five guesses are two boxes of two classes and one of a third
                assert row["top5_error"] <= row["gt_known_error"] if shift == 0 else row["top5_error"] == 100.0
        assert "top1_error" not in own_rows(results, "val")[0], "there are no classes of the val split"


def test_a_second_network_is_its_own_classes(finished_run: Path, second_run: Path, tmp_path: Path) -> None:
    kept = evaluated(second_run, tmp_path / "kept", "save_maps=true")
    by_network = evaluated(finished_run, tmp_path / "network", f"classes={second_run}")
    by_checkpoint = evaluated(
        finished_run, tmp_path / "file", f"classes={second_run / 'checkpoints' / 'best.ckpt'}", "batch_size=5"
    )
    assert main(["export", str(second_run), "format=safetensors", f"out={tmp_path / 'second.safetensors'}"]) == 0
    by_export = evaluated(finished_run, tmp_path / "exported", f"classes={tmp_path / 'second.safetensors'}")
    by_kept = evaluated(finished_run, tmp_path / "evaluation", f"classes={tmp_path / 'kept'}")
    for results in (by_network, by_checkpoint, by_export, by_kept):
        assert results["classification"]["test"] == kept["classification"]["test"]
        assert own_rows(results) == own_rows(by_network)
    itself = evaluated(finished_run, tmp_path / "itself", f"classes={finished_run}")
    own = json.loads((finished_run / "results.json").read_text())
    assert own_rows(itself) == own_rows(own)
    assert kept["classification"]["test"] != own["classification"]["test"], "or the test could not fail"


def test_source_and_hash_are_recorded_and_the_table_is_named(finished_run: Path, tmp_path: Path, capsys) -> None:
    file = classes_csv(finished_run, tmp_path / "dpn131.csv", 3)
    results = evaluated(finished_run, tmp_path / "out", f"classes={file}", "save_maps=true")
    assert results["classes"] == {
        "name": "dpn131",
        "source": [str(file)],
        "sha256": [hashlib.sha256(file.read_bytes()).hexdigest()],
        "split": "test",
    }
    out = capsys.readouterr().out
    assert "test split (24 images), classes of dpn131" in out
    assert "classification error, test, classes of dpn131: top-1 100.00 %, top-5 0.00 %" in out
    with (tmp_path / "out" / "per_image.csv").open() as lines:
        assert {row["rank"] for row in csv.DictReader(lines)} == {"3"}


def test_the_val_split_may_be_evaluated_by_other_classes(finished_run: Path, tmp_path: Path) -> None:
    file = classes_csv(finished_run, tmp_path / "val.csv", 0, split="val")
    results = evaluated(finished_run, tmp_path / "out", "split=val", f"classes={file}")
    assert results["classification"] == {"val": {"top1_error": 0.0, "top5_error": 0.0}}


def test_what_was_found_of_each_image_makes_the_errors(finished_run: Path, tmp_path: Path) -> None:
    """The results kept beside results.json give its errors, under every protocol."""
    file = classes_csv(finished_run, tmp_path / "classes.csv", 3)
    for out, words in ((tmp_path / "own", []), (tmp_path / "other", [f"classes={file}"])):
        results = evaluated(finished_run, out, "protocol=all", *words)
        checked = 0
        for row in (row for row in results["localization"] if row["maps"] == "localizer"):
            for error in (key for key in row if key.endswith("_error")):
                found = image_results.read(out, row["split"], error, row["protocol"], row["threshold_origin"])
                assert len(found.ids) == row["images"]
                each = found.values
                if found.labels is None:
                    mean = each.mean()
                else:
                    mean = np.mean([each[found.labels == k].mean() for k in np.unique(found.labels)])
                assert mean == pytest.approx(row[error]), (row, error)
                checked += 1
        assert checked > 50
        for error, value in results["classification"]["test"].items():
            assert image_results.read(out, "test", error).values.mean() == pytest.approx(value)
        assert image_results.read(out, "test", "top1_error", "no such", "fixed") is None
    assert image_results.read(finished_run, "test", "gt_known_error", "cam2016", "fixed") is not None, (
        "wsol train keeps them"
    )


BAD = [
    (["classes=/nowhere.csv"], "/nowhere.csv: no such file or folder"),
    (["classes={tmp}/odd.csv"], "odd.csv:2: unknown class 'griffin'"),
    (["classes={tmp}/few.csv"], "few.csv: 2 classes per image at most, too few for top-5"),
    (["classes={tmp}/val.csv"], "is not an image of the test split"),
    (["classes={tmp}/none.csv"], "none.csv: empty file"),
    (["classes=[{tmp}/few.csv,{tmp}/few.ckpt]"], "few.ckpt: no such file"),
    (["classes=[{tmp}/few.csv,{run}]"], "expected CSV files, or one run folder or checkpoint"),
    (["classes={tmp}"], "not a run"),
    (["classes={tmp}/broken.ckpt"], "broken.ckpt: not a PyTorch checkpoint"),
    (["classes={run}", "data=creatures", "data.num_classes=3", "topk=[1]"], "trained on 8 classes"),
    (["classes={run}", "recognize=crop"], "leave classes=... out"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_clear_message(finished_run: Path, tmp_path: Path, capsys, words, message) -> None:
    (tmp_path / "odd.csv").write_text(
        "image_id,class,score\nx,griffin,1\n".replace("x", source(finished_run).split("test").ids[0])
    )
    classes_csv(finished_run, tmp_path / "few.csv", 0, top=2)
    classes_csv(finished_run, tmp_path / "val.csv", 0, split="val")
    (tmp_path / "none.csv").write_text("")
    (tmp_path / "broken.ckpt").write_text("no checkpoint")
    words = [word.format(run=finished_run, tmp=tmp_path) for word in words]
    assert main(["eval", f"run={finished_run}", *words, f"out={tmp_path / 'out'}", *QUICK]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.slow
@pytest.mark.skipif(not SCRIPT.exists(), reason="the console script is not installed")
def test_two_processes_give_the_same_digits(finished_run: Path, second_run: Path, tmp_path: Path) -> None:
    alone = evaluated(finished_run, tmp_path / "alone", f"classes={second_run}", "batch_size=1")
    words = [f"run={finished_run}", f"out={tmp_path / 'two'}", f"classes={second_run}", "batch_size=1", *QUICK]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [SCRIPT, "eval", *words, "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
    started = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    try:
        assert started.wait(240) == 0
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
    shared = json.loads((tmp_path / "two" / "results.json").read_text())
    for part in ("localization", "classification", "classes"):
        assert shared[part] == alone[part], part
