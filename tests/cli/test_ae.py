"""`wsol ae`: rounds that erase, what they merge to, and going on after an interruption."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

import wsol.engine.training
from tests.conftest import SMALL_RUN, left_behind
from wsol.callbacks.progress import EpochLines
from wsol.cli import main
from wsol.config import build
from wsol.data.datasets.erased import write_regions
from wsol.data.module import LocalizationData
from wsol.data.source import Source, Split
from wsol.data.transforms import ResizeSquare
from wsol.interop.map_folder import open_maps
from wsol.runs import checkpoints

THRESHOLD = 0.6
ROUNDS = ["rounds=2", f"threshold={THRESHOLD}", "trainer.precision=32-true"]


def ae(*words: str) -> int:
    return main(["ae", *SMALL_RUN, *ROUNDS, *words])


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """The folder of two finished rounds."""
    folder = tmp_path_factory.mktemp("ae") / "run"
    assert ae(f"data_dir={data_dir}", f"run_dir={folder}") == 0
    return folder


def data_of(folder: Path) -> tuple[LocalizationData, torch.nn.Module]:
    """The data of a round and its network."""
    config, file = OmegaConf.load(folder / "config.yaml"), folder / "checkpoints" / "best.ckpt"
    localizer, _ = checkpoints.load_localizer(checkpoints.read(file), file)
    source = build.build_source(config)
    return build.build_data(config, source, localizer.preprocessing, seed=config.seed), localizer.eval()


def test_pseudo_boxes_give_a_threshold_of_that_origin(tmp_path: Path, data_dir: Path) -> None:
    boxes = tmp_path / "boxes.txt"
    boxes.write_text("".join(f"val-{i:06d},4,4,28,28\n" for i in range(16)), encoding="utf-8")
    words = ["rounds=1", "trainer.max_epochs=1", f"data_dir={data_dir}", f"pseudo_boxes={boxes}"]
    assert ae(*words, f"run_dir={tmp_path / 'run'}") == 0
    found = results(tmp_path / "run")
    rows = [row for row in found["localization"] if row["maps"] == "localizer" and row["split"] == "test"]
    assert [row["threshold_origin"] for row in rows] == ["fixed", "pseudo", "fullsup", "oracle"]
    assert found["pseudo_boxes"]["images"] == 16


def test_regions_are_where_the_map_of_the_label_is_high(run: Path) -> None:
    data, network = data_of(run / "round0")
    erased = data_of(run / "round1")[0].split("train")
    plain, preprocessing = data.split("train"), network.preprocessing
    mean, std = (np.array(values) for values in (preprocessing.mean, preprocessing.std))
    apart = []
    for i in range(len(plain)):
        image = (plain.image(i) / 255 - mean) / std
        with torch.inference_mode():
            output = network(torch.from_numpy(image).permute(2, 0, 1)[None].float())
            of_label = network.maps(output, torch.tensor([[int(plain.labels[i])]]))
        wide = F.interpolate(of_label.double(), (64, 64), mode="bilinear")[0, 0].numpy()
        expected = (wide - wide.min()) / (wide.max() - wide.min()) >= THRESHOLD
        apart.append((erased.region(i) != expected).mean())
        assert 0 < erased.region(i).mean() < 1
    assert np.mean(apart) < 0.002  # cells next to the threshold may round to the other side


def test_the_next_round_sees_the_mean_there_and_whole_images_when_evaluated(run: Path) -> None:
    before, network = data_of(run / "round0")
    after, _ = data_of(run / "round1")
    fill = np.rint(np.array(network.preprocessing.mean) * 255)
    for i in range(len(before.split("train"))):
        was, now = before.split("train").image(i), after.split("train").image(i)
        changed = (was != now).any(2)
        assert changed.any()
        assert (now[changed] == fill).all()
    for name in ("val", "test"):
        for i in range(len(before.split(name))):
            assert np.array_equal(before.split(name).image(i), after.split(name).image(i))


def test_maps_are_merged_by_the_maximum_of_scaled_maps(run: Path) -> None:
    for split, count in (("val", 16), ("test", 24)):
        merged = open_maps(run / "maps" / split)
        rounds = [open_maps(run / f"round{i}" / "maps" / split) for i in range(2)]
        assert len(merged.ids) == count
        differ = 0
        for name in merged.ids:
            maps = [torch.from_numpy(one.read(name)[0]).double() for one in rounds]
            expected = torch.stack([(m - m.min()) / (m.max() - m.min()) for m in maps]).amax(0)
            values, views = merged.read(name)
            assert values == pytest.approx(expected.numpy(), abs=1e-6)
            assert views == rounds[0].read(name)[1]
            differ += not np.allclose(*(m.numpy() for m in maps))
        assert differ, "two networks that agree everywhere merge to nothing new"


def test_results_are_those_of_any_run(run: Path, data_dir: Path) -> None:
    content, first = results(run), results(run / "round0")
    own = [row for row in content["localization"] if row["maps"] == "localizer" and row["split"] == "test"]
    assert {(row["protocol"], row["threshold_origin"]) for row in own} == {
        ("cam2016", "fixed"),
        ("choe2020", "fullsup"),
        ("choe2020", "oracle"),
    }
    assert {row["maps"] for row in content["localization"]} > {"localizer", "whole image", "centre box"}
    assert content["classification"] == first["classification"]
    assert content["data"] == first["data"]
    assert content["threshold"] == THRESHOLD
    assert [one["folder"] for one in content["rounds"]] == ["round0", "round1"]
    for i, one in enumerate(content["rounds"]):
        expected = [row for row in results(run / f"round{i}")["localization"] if row["maps"] == "localizer"]
        assert one["localization"] == expected
    lines = (run / "per_image.csv").read_text().splitlines()
    assert len(lines) == 1 + 24 * len(own)


def test_wsol_score_evaluates_the_merged_maps_alike(run: Path, tmp_path: Path) -> None:
    assert main(["score", f"maps={run}", f"out={tmp_path / 'out'}"]) == 0
    expected = [row for row in results(run)["localization"] if row["split"] == "test"]
    for row in expected:
        row.pop("class_agnostic", None)  # saved maps do not say whether they are the same for all classes
    assert results(tmp_path / "out")["localization"] == expected


def test_one_round_is_an_ordinary_run(tmp_path: Path, data_dir: Path) -> None:
    words = [*SMALL_RUN, f"data_dir={data_dir}", "trainer.precision=32-true", "protocol=choe2020"]
    assert main(["ae", *words, "rounds=1", f"run_dir={tmp_path / 'ae'}"]) == 0
    assert main(["train", *words, f"run_dir={tmp_path / 'train'}"]) == 0
    # Maps scaled by their range are what the protocol makes of them anyway.
    assert results(tmp_path / "ae")["localization"] == results(tmp_path / "train")["localization"]
    for key, value in weights(tmp_path / "train").items():
        assert torch.equal(value, weights(tmp_path / "ae" / "round0")[key]), key
    assert not (tmp_path / "ae" / "round0" / "regions").exists()


class Stop(EpochLines):
    """Stands for Ctrl-C at step 4 of a training."""

    def on_train_batch_end(self, trainer, *rest) -> None:
        super().on_train_batch_end(trainer, *rest)
        if trainer.global_step == 4:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stopped_in", ["round0", "round1"])
def test_a_stopped_command_goes_on_and_ends_as_if_it_had_not_stopped(
    run: Path, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, stopped_in: str
) -> None:
    folder, words = tmp_path / "run", [f"data_dir={data_dir}", f"run_dir={tmp_path / 'run'}"]
    if stopped_in == "round0":
        monkeypatch.setattr(wsol.engine.training, "EpochLines", Stop)
        assert ae(*words) == 130
        assert (folder / "round0" / "checkpoints" / "last.ckpt").exists()
        assert not (folder / "round0" / "results.json").exists()
    else:  # and once before, while the maps of the first round were written
        shutil.copytree(run / "round0", folder / "round0")
        shutil.copy(run / "config.yaml", folder)
        config = (folder / "round0" / "config.yaml").read_text()
        (folder / "round0" / "config.yaml").write_text(config.replace(str(run), str(folder)))
        shutil.rmtree(folder / "round0" / "regions")
        shutil.rmtree(folder / "round0" / "maps")
        left = left_behind(folder / "round0" / "maps")
        (left / "val").mkdir(parents=True)
        (left / "val" / "maps-0.bin.part").touch()
        monkeypatch.setattr(wsol.engine.training, "EpochLines", Stop)
        assert ae(*words, "resume=true") == 130
        assert (folder / "round0" / "regions").exists()
        assert (folder / "round1" / "checkpoints" / "last.ckpt").exists()
    monkeypatch.setattr(wsol.engine.training, "EpochLines", EpochLines)
    assert ae(*words, "resume=true") == 0
    for i in range(2):
        for key, value in weights(run / f"round{i}").items():
            assert torch.equal(value, weights(folder / f"round{i}")[key]), key
    assert results(folder)["localization"] == results(run)["localization"]
    assert not list(folder.rglob("*.partial*"))


def test_a_finished_command_prints_its_results(run: Path, data_dir: Path, capsys) -> None:
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.is_file()}
    assert ae(f"data_dir={data_dir}", f"run_dir={run}", "resume=true") == 0
    assert "ae-creatures-cam-tiny" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.is_file()} == before


BAD = [
    (["rounds=0"], "rounds=0: expected at least 1"),
    (["threshold=0"], r"in \(0, 1\]"),
    (["threshold=1.2"], r"in \(0, 1\]"),
    (["topk=[1,6]"], "saves the top 5 classes"),
    (["monitor=test/top1_error"], "nothing is chosen on the test split"),
    (["treshold=0.5"], "did you mean 'threshold'"),
    (["backbone=resnet18", "backbone.output_stride=5"], "output_stride"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_words_are_refused_and_leave_nothing(tmp_path: Path, data_dir: Path, capsys, words, message) -> None:
    assert ae(f"data_dir={data_dir}", f"run_dir={tmp_path / 'run'}", *words) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "run").exists()


def test_processes_of_torchrun_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert ae(f"run_dir={tmp_path / 'run'}") == 2
    assert "trainer=ddp" in capsys.readouterr().err


class Plain(Source):
    """Twelve grey images of two classes, all for training."""

    classes, splits = ("a", "b"), ("train",)

    def _split(self, name: str) -> Split:
        return Grey(name, [f"{i}" for i in range(12)], np.arange(12) % 2)


class Grey(Split):
    def _read_image(self, row: int) -> np.ndarray:
        return np.full((8, 8, 3), row, np.uint8)


@pytest.mark.parametrize("order", [("train", "val"), ("val", "train")])
def test_what_is_held_out_keeps_its_pixels(tmp_path: Path, order: tuple[str, str]) -> None:
    whole = LocalizationData(Plain(), None, ResizeSquare(8), val_per_class=2)
    half = np.zeros((64, 64), bool)
    half[:, :32] = True
    write_regions(tmp_path / "regions", whole.split("train"), [half] * 8)
    data = LocalizationData(
        Plain(), None, ResizeSquare(8), val_per_class=2, erased={str(tmp_path / "regions"): [1.0, 0.0, 0.0]}
    )
    for name in order:
        split, before = data.split(name), whole.split(name)
        assert list(split.ids) == list(before.ids)
        for i in range(len(split)):
            expected = before.image(i).copy()
            if name == "train":
                expected[:, :4] = (255, 0, 0)
            assert np.array_equal(split.image(i), expected)
