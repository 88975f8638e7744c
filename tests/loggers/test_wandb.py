"""What Weights & Biases is given, read back from the files of offline runs."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
from omegaconf import DictConfig
from wandb.proto import wandb_internal_pb2

from tests.conftest import SMALL_RUN
from tests.curves import box_accuracy
from tests.marked import CLASSES, PROTOCOLS, Case
from wsol.cli import main
from wsol.config.compose import compose
from wsol.data.transforms import ResizeSquare
from wsol.engine.charts import OVERLAPS, Overlaps, charts
from wsol.engine.evaluation import SplitEvaluation
from wsol.engine.training import run

BLOCK = 32768
LAST_PARTS = (1, 4)
"""Kinds of pieces that end a record: a whole one, the last of several."""


def records(folder: Path) -> list[wandb_internal_pb2.Record]:
    """The records of an offline run that has ended; wandb writes them from another process, a little later."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = list(written(folder))
        if found and found[-1].HasField("exit"):
            return found
        time.sleep(0.1)
    raise TimeoutError(f"{folder}: no end of the run")


def written(folder: Path) -> Iterator[wandb_internal_pb2.Record]:
    """The records in the file so far: LevelDB's log format after a header of 7 bytes."""
    (file,) = folder.glob("*.wandb")
    content, parts, at = file.read_bytes(), b"", 7
    while at + 7 <= len(content):
        if (left := BLOCK - at % BLOCK) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        if at + 7 + length > len(content):
            return
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in LAST_PARTS:
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def offline_runs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("offline-run-*") if path.is_dir())


def history(folder: Path) -> dict:
    """The last value of everything logged, nested keys joined by dots."""
    return {
        item.key or ".".join(item.nested_key): json.loads(item.value_json)
        for record in records(folder)
        if record.HasField("history")
        for item in record.history.item
    }


def run_id(folder: Path) -> str:
    return next(record.run.run_id for record in records(folder) if record.HasField("run"))


def table(folder: Path, logged: dict, name: str) -> dict:
    return json.loads((folder / "files" / logged[f"{name}.path"]).read_text())


@pytest.fixture(scope="module")
def train_folder(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A small run, logged offline."""
    folder = tmp_path_factory.mktemp("wandb") / "run"
    words = [*SMALL_RUN, f"data_dir={data_dir}", "logger=wandb", "logger.offline=true", "logger.images=5"]
    assert main(["train", *words, "trainer.max_epochs=1", f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module", params=["train", "eval"])
def logged(request, train_folder: Path) -> tuple[Path, dict, dict]:
    """The offline run of `wsol train` or `wsol eval`, what it was given, and results.json."""
    out = train_folder
    if request.param == "eval":
        out = train_folder.parent / "evaluated"
        words = [f"run={train_folder}", f"out={out}", "save_maps=true", "trainer.accelerator=cpu"]
        assert main(["eval", *words, "logger=wandb", "logger.offline=true", "logger.images=5"]) == 0
        assert (out / "maps" / "test").is_dir()  # the logger looks over the shoulder of what writes the maps
    (folder,) = offline_runs(out)
    return folder, history(folder), json.loads((out / "results.json").read_text())


def test_pictures_have_boxes_and_captions_with_classes_overlap_and_result(logged) -> None:
    folder, found, _ = logged
    captions = found["test/localization.captions"]
    assert len(captions) == 5
    for file, caption, boxes in zip(
        found["test/localization.filenames"], captions, found["test/localization.all_boxes"], strict=True
    ):
        assert (folder / "files" / file).is_file()
        drawn = json.loads((folder / "files" / boxes["boxes"]["path"]).read_text())["box_data"]
        *true, predicted = drawn
        assert true
        assert all(box["class_id"] == 0 for box in true)
        assert predicted["class_id"] == 1
        label, guess = true[0]["box_caption"], predicted["box_caption"].partition(",")[0]
        result, _, rest = caption.partition(": ")
        assert rest.startswith(f"{label}, predicted {guess}, IoU ")
        overlap = float(rest.split("IoU ")[1].split(" ")[0])
        if abs(overlap - 0.5) > 0.006:
            right = {True: "right", False: "right box, wrong class"}[label == guess]
            assert (result == right) == (overlap > 0.5), caption


def test_curves_and_classes_agree_with_results_json(logged) -> None:
    folder, found, results = logged
    over_iou = table(folder, found, "test/accuracy_over_iou_table")["data"]
    over_threshold = table(folder, found, "test/accuracy_over_threshold_table")["data"]
    classes = table(folder, found, "test/classes")
    rows = [row for row in results["localization"] if row["split"] == "test" and row["maps"] == "localizer"]
    assert len(rows) == 3
    for row in rows:
        name, origin = row["protocol"], row["threshold_origin"]
        line = f"{name}, {row['threshold']:.3g} ({origin})"
        accuracy = {x: y for at, x, y in over_iou if at == line}
        assert len(accuracy) == len(OVERLAPS)
        assert accuracy[0.5] == pytest.approx(100 - row["gt_known_error"])
        for kind, key in (("GT-known", "gt_known_error"), ("top-1", "top1_error")):
            at = classes["columns"].index(f"{kind} ({name}, {origin})")
            mean = np.average([values[at] for values in classes["data"]], weights=[v[1] for v in classes["data"]])
            assert mean == pytest.approx(100 - row[key])
    oracle = next(row for row in rows if row["threshold_origin"] == "oracle")
    line = {x: y for at, x, y in over_threshold if at == "choe2020, GT-known, IoU 0.5"}
    assert 95 <= len(line) <= 101
    assert max(line.values()) <= 100 - oracle["gt_known_error"] + 1e-9
    assert len(set(line.values())) > 1


def test_results_json_is_among_the_files(logged) -> None:
    folder, _, results = logged
    assert json.loads((folder / "files" / "results.json").read_text()) == results


def test_a_stopped_run_goes_on_as_the_same_wandb_run(tmp_path: Path, data_dir: Path) -> None:
    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

    words = [*SMALL_RUN, f"data_dir={data_dir}", "logger=wandb", "logger.offline=true", f"run_dir={tmp_path}/run"]
    config = compose("train", words)
    with pytest.raises(KeyboardInterrupt):
        run(config, callbacks=[Stop()])
    assert main(["train", *words, "resume=true"]) == 0
    first, second = offline_runs(tmp_path)
    assert run_id(first) == run_id(second)
    assert history(first)["epoch"] == 0
    assert history(second)["epoch"] >= 1
    assert "test/classes.path" in history(second)


def test_a_job_after_a_failed_one_is_a_wandb_run_of_its_own(tmp_path: Path, data_dir: Path) -> None:
    class Fail(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            raise RuntimeError("a fault")

    def configured(name: str) -> DictConfig:
        words = [*SMALL_RUN, f"data_dir={data_dir}", "logger=wandb", "logger.offline=true", "trainer.max_epochs=1"]
        return compose("train", [*words, f"run_dir={tmp_path / name}"])

    with pytest.raises(RuntimeError, match="a fault"):
        run(configured("failed"), callbacks=[Fail()])
    assert (run(configured("good")) / "results.json").is_file()
    failed, good = (offline_runs(tmp_path / name) for name in ("failed", "good"))
    assert len(failed) == len(good) == 1
    assert run_id(failed[0]) != run_id(good[0])


@pytest.mark.parametrize("views", [1, 2])
def test_overlaps_are_those_of_each_protocol_asked_image_by_image(views: int) -> None:
    case, to_views = Case(17, views=views), ResizeSquare(24).views
    evaluation = SplitEvaluation(case.split, lambda size: [*to_views(size)] * views, PROTOCOLS)
    seen = Overlaps(evaluation)
    case.feed(evaluation, range(17), 5)
    measured = evaluation.compute()
    curves = {name: metric.compute() for name, metric in seen.metrics.items()}
    for name, protocol in PROTOCOLS.items():
        hits, positions = [], []
        for position in range(17):
            truth = case.split.truth(position)
            if truth is not None:
                of_image, view = protocol.merge(case.maps[position], [*to_views(case.sizes[position])] * views)
                hits.append(seen.protocols[name].evaluate(of_image, view, truth))
                positions.append(position)
        alone = box_accuracy(
            np.stack(hits)[:, : len(OVERLAPS)],
            protocol.thresholds if len(protocol.thresholds) else None,
            topk=(),
            ious=OVERLAPS,
            num_thresholds=protocol.num_columns,
            by_class=protocol.average == "class",
            labels=case.labels[positions],
        )
        np.testing.assert_array_equal(curves[name].gt_known, alone.gt_known)
        own = measured.curves[name]["localizer"]
        for i, overlap in enumerate(own.ious):
            np.testing.assert_allclose(
                curves[name].gt_known[OVERLAPS.index(overlap)], own.gt_known[i], rtol=0, atol=1e-9
            )
    names = [f"class {k}" for k in range(CLASSES)]
    made = charts(measured, seen.protocols, curves, case.labels, names)
    assert {"accuracy_over_threshold", "accuracy_over_iou", "classes"} == made.keys()
    assert [row[1] for row in made["classes"].rows] == [int((case.labels == k).sum()) for k in np.unique(case.labels)]
    for line in {row[0] for row in made["accuracy_over_iou"].rows}:
        shares = [share for name, _, share in made["accuracy_over_iou"].rows if name == line]
        assert (np.diff(shares) <= 0).all(), "more overlap is asked of fewer images"
