"""`wsol eval split=train pseudo=...` and trainings with it: what is written, learned from, recorded and refused."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tests.conftest import SMALL_RUN
from wsol.cli import main
from wsol.config import build
from wsol.data.pseudo_targets import pack_mask
from wsol.engine import pseudo_target_writer
from wsol.engine.pseudo_evaluation import threshold_origin
from wsol.engine.pseudo_target_writer import TargetWriter
from wsol.errors import InputError
from wsol.functional.geometry import Geometry
from wsol.heads.gap import GapHead
from wsol.interop.map_folder import open_maps
from wsol.interop.shards import records_in_order
from wsol.protocols import protocol
from wsol.runs import checkpoints

FLOAT = "trainer.precision=32-true"


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def about(folder: Path) -> dict:
    return json.loads((folder / "about.json").read_text())


def boxes(folder: Path) -> dict[str, list[float]]:
    with (folder / "boxes.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["image", "x0", "y0", "x1", "y1"]
    return {name: [float(value) for value in box] for name, *box in rows[1:]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, finished_run: Path) -> dict[str, Path]:
    """Pseudo boxes and masks of the small run's training images."""
    made = {}
    for kind in ("boxes", "masks"):
        made[kind] = tmp_path_factory.mktemp("pseudo") / kind
        assert main(["eval", str(finished_run), "split=train", f"pseudo={kind}", f"out={made[kind]}"]) == 0
    return made


def map_of_label(run: Path):
    """Yield the id, label's map and size of each training image, by the network alone."""
    config, file = OmegaConf.load(run / "config.yaml"), run / "checkpoints" / "best.ckpt"
    network, _ = checkpoints.load_localizer(checkpoints.read(file), file)
    split, preprocessing = build.build_source(config).split("train"), network.preprocessing  # type: ignore[arg-type]
    mean, std = (np.array(values) for values in (preprocessing.mean, preprocessing.std))
    for i, name in enumerate(split.ids):
        pixels = split.image(i)
        image = torch.from_numpy((pixels / 255 - mean) / std).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            output = network.eval()(image)
            found = network.maps(output, torch.tensor([[int(split.labels[i])]]))[0, 0]
        yield name, found.numpy(), pixels.shape[1::-1]


def test_boxes_and_masks_are_those_of_the_labels_map(folders: dict[str, Path], finished_run: Path) -> None:
    written = boxes(folders["boxes"])
    ids = (folders["masks"] / "ids.txt").read_text().splitlines()
    files, ends = np.load(folders["masks"] / "masks.npy"), np.load(folders["masks"] / "ends.npy")
    apart, differ = [], []
    for at, (name, found, size) in enumerate(map_of_label(finished_run)):
        expected = protocol("cam2016").predict(found, Geometry.whole(size))[0]
        apart.append(np.abs(expected - written[name]).max())
        assert ids[at] == name
        mask = cv2.imdecode(files[ends[at - 1] if at else 0 : ends[at]], cv2.IMREAD_GRAYSCALE) > 0
        wide = cv2.resize(found, size, interpolation=cv2.INTER_CUBIC)
        differ.append(((wide > 0.2 * wide.max()) != mask).mean())
        x0, y0, x1, y1 = map(int, written[name])
        assert mask[y0:y1, x0:x1].any(0).all()  # the box lies around the largest part of the mask
    assert np.mean(np.array(apart) > 1) < 0.05  # rounding may add or lose a pixel at the threshold
    assert np.mean(differ) < 0.02
    assert len(written) == 48


def test_about_says_who_made_them(folders: dict[str, Path], finished_run: Path) -> None:
    fact = about(folders["boxes"])
    assert fact["threshold"] == 0.2
    assert (fact["split"], fact["protocol"], fact["threshold_origin"]) == ("train", "cam2016", "fixed")
    assert (fact["images"], fact["human_boxes"], fact["class_agnostic"]) == (48, False, False)
    assert fact["network"].startswith(str(finished_run))
    assert re.fullmatch("[0-9a-f]{64}", fact["checkpoint_sha256"])
    assert not (folders["boxes"] / "results.json").exists()


def test_a_threshold_chosen_on_val_says_by_which_boxes(finished_run: Path, tmp_path: Path, capsys) -> None:
    words = ["eval", str(finished_run), "split=train", "pseudo=boxes", "protocol=choe2020"]
    assert main([*words, f"out={tmp_path / 'human'}"]) == 0
    assert "human boxes were used" in capsys.readouterr().out
    fact = about(tmp_path / "human")
    assert (fact["threshold_origin"], fact["human_boxes"]) == ("fullsup", True)
    rows = results(finished_run)["localization"]
    chosen = [row["threshold"] for row in rows if row["threshold_origin"] == "fullsup" and row["maps"] == "localizer"]
    assert fact["threshold"] == pytest.approx(chosen[0])  # as the evaluation of the run chose it
    ids = [f"val-{i:06d}" for i in range(16)]
    (tmp_path / "val.txt").write_text("".join(f"{name},4,4,28,28\n" for name in ids))
    assert main([*words, f"pseudo_boxes={tmp_path / 'val.txt'}", f"out={tmp_path / 'nobody'}"]) == 0
    fact = about(tmp_path / "nobody")
    assert (fact["threshold_origin"], fact["human_boxes"]) == ("pseudo", False)


def train(data_dir: Path, run_dir: Path, *words: str) -> int:
    return main(["train", *SMALL_RUN, f"data_dir={data_dir}", f"run_dir={run_dir}", FLOAT, *words])


def test_a_regressor_learns_from_them_and_says_so(folders, data_dir: Path, tmp_path: Path, capsys) -> None:
    words = ["method=psol", f"pseudo={folders['boxes']}"]
    assert train(data_dir, tmp_path / "run", *words) == 0
    assert "no human box was used" in capsys.readouterr().err
    found = results(tmp_path / "run")
    assert found["pseudo"]["threshold_origin"] == "fixed"
    assert found["pseudo"]["human_boxes"] is False
    assert re.fullmatch("[0-9a-f]{64}", found["pseudo"]["sha256"])
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0]
    assert "train/outside_crop" in header
    # An evaluation neither needs nor reads the folder.
    assert main(["eval", str(tmp_path / "run"), f"out={tmp_path / 'eval'}"]) == 0
    again = results(tmp_path / "eval")
    assert again["localization"] == found["localization"]


def test_a_training_does_not_go_on_with_other_pseudo_boxes(folders, data_dir: Path, tmp_path: Path, capsys) -> None:
    mine = tmp_path / "pseudo"
    mine.mkdir()
    for name in ("about.json", "boxes.csv"):
        (mine / name).write_bytes((folders["boxes"] / name).read_bytes())
    words = ["method=psol", f"pseudo={mine}"]
    assert train(data_dir, tmp_path / "run", *words) == 0
    (tmp_path / "run" / "results.json").unlink()
    (mine / "boxes.csv").write_text((mine / "boxes.csv").read_text().replace("train-000000,", "train-000000,0"))
    assert train(data_dir, tmp_path / "run", *words, "resume=true") == 2
    assert "began with other data" in capsys.readouterr().err


REFUSED = [
    (["method=cam"], "GapHead learns without pseudo targets; leave them out"),
    (["method=psol", "pseudo=null"], "BoxHead learns from pseudo boxes, got none"),
    (["method=psol", "data.train_images=40"], "made on the train split of another dataset"),
    (
        ["method=psol", "method.batch_transforms=[{_target_: wsol.batch_transforms.cutmix.CutMix}]"],
        "CutMix mixes images, which have no common box or mask",
    ),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_trainings_are_refused_before_they_begin(folders, data_dir: Path, tmp_path: Path, capsys, words, message):
    given = [] if any(word.startswith("pseudo=") for word in words) else [f"pseudo={folders['boxes']}"]
    assert train(data_dir, tmp_path / "run", *given, *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_masks_are_not_boxes(folders, data_dir: Path, tmp_path: Path, capsys) -> None:
    assert train(data_dir, tmp_path / "run", "method=psol", f"pseudo={folders['masks']}") == 2
    assert "BoxHead learns from pseudo boxes, got masks" in capsys.readouterr().err


BAD = [
    (["pseudo=boxes"], "pseudo=boxes split=test: a network learns from the train split only"),
    (["pseudo=boxes", "split=val"], "split=val: a network learns from the train split only"),
    (["split=train"], "split=train: nothing is evaluated on training images"),
    (["split=train", "pseudo=box"], "did you mean 'boxes'"),
    (["split=train", "pseudo=boxes", "save_maps=true"], "save_maps=True: pseudo=boxes only writes boxes"),
    (["split=train", "pseudo=boxes", "recognize=crop"], "recognize=crop: pseudo=boxes only writes boxes"),
    (["split=train", "pseudo=masks", "protocol=cam2016-code"], "has no threshold for a foreground"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_evaluations_are_refused(finished_run: Path, tmp_path: Path, capsys, words: list[str], message: str) -> None:
    assert main(["eval", str(finished_run), f"out={tmp_path / 'out'}", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_a_stopped_command_leaves_is_not_taken_for_whole(finished_run: Path, tmp_path: Path, monkeypatch) -> None:
    """Ctrl-C leaves nothing; the shard of a killed process has no index."""
    words = ["eval", str(finished_run), "split=train", "pseudo=masks", f"out={tmp_path / 'out'}"]
    seen = []

    def stop(mask: np.ndarray) -> bytes:
        seen.append(mask)
        if len(seen) == 20:
            raise KeyboardInterrupt
        return pack_mask(mask)

    monkeypatch.setattr(pseudo_target_writer, "pack_mask", stop)
    assert main(words) == 130
    assert not list(tmp_path.iterdir())
    writer = TargetWriter(tmp_path / "shards", protocol("cam2016"), 0.2, "masks")
    writer.add("a", np.array([[[0.0, 1.0]]]), [Geometry.whole((2, 1))], np.zeros(3))
    with pytest.raises(InputError, match="writing was interrupted"):
        list(records_in_order(tmp_path / "shards", "targets", ["a"]))


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "val")])
def test_no_threshold_is_chosen_on_training_images(splits: tuple[str, ...]) -> None:
    """Without boxes of a val split, the best threshold on the training images would be an oracle."""
    data: Any = SimpleNamespace(splits=splits, split=lambda name: SimpleNamespace(has_boxes=False))
    with pytest.raises(InputError, match=r"best one on the training images would know their boxes \(oracle\)"):
        threshold_origin(protocol("choe2020"), data, has_pseudo_boxes=False)
    assert threshold_origin(protocol("choe2020"), data, has_pseudo_boxes=True) == "pseudo"
    assert threshold_origin(protocol("cam2016"), data, has_pseudo_boxes=True) == "fixed"


def test_saved_maps_of_val_box_alike(finished_run: Path, tmp_path: Path) -> None:
    """The protocol's foreground, of the same maps as its box: the box lies around one of its components."""
    assert main(["eval", str(finished_run), "split=val", "save_maps=true", f"out={tmp_path / 'eval'}"]) == 0
    store, rule = open_maps(tmp_path / "eval" / "maps" / "val"), protocol("cam2016")
    for name in store.ids:
        merged, view = rule.merge(*store.read(name))
        mask = rule.foreground(merged, view).astype(np.uint8)
        x0, y0, x1, y1 = map(int, rule.predict(merged, view)[0])
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        around = [(x, y, x + w, y + h) for x, y, w, h, _ in stats[1:].tolist()]
        assert (x0, y0, x1, y1) in around


def test_a_network_of_other_classes_finds_boxes_without_its_scores(data_dir: Path, tmp_path: Path, capsys) -> None:
    small = [word for word in SMALL_RUN if word.startswith(("data.", "image_size"))]
    words = ["eval", "model=timm", "name=resnet10t", "data=creatures", f"data_dir={data_dir}", *small, "num_workers=0"]
    words += ["split=train", "pseudo=boxes", "protocol=cam2016", "trainer.accelerator=cpu"]
    assert main([*words, "explainer=pc1", f"out={tmp_path / 'pc1'}"]) == 0
    fact = about(tmp_path / "pc1")
    assert (fact["explainer"], fact["class_agnostic"], fact["images"]) == ("pc1", True, 48)
    capsys.readouterr()
    assert main([*words, "explainer=gradcam", f"out={tmp_path / 'gradcam'}"]) == 2
    assert "was trained on 1000 classes; the dataset has 8" in capsys.readouterr().err


def test_human_boxes_that_chose_the_checkpoint_are_recorded(data_dir: Path, tmp_path: Path) -> None:
    assert train(data_dir, tmp_path / "run", "monitor=val/cam2016/fixed/gt_known_error") == 0
    assert main(["eval", str(tmp_path / "run"), "split=train", "pseudo=boxes", f"out={tmp_path / 'pseudo'}"]) == 0
    fact = about(tmp_path / "pseudo")
    assert (fact["threshold_origin"], fact["human_boxes"]) == ("fixed", True)
    shutil.copy(tmp_path / "run" / "checkpoints" / "best.ckpt", alone := tmp_path / "alone.ckpt")
    assert main(["eval", str(alone), "split=train", "pseudo=boxes", f"out={tmp_path / 'again'}"]) == 0
    assert about(tmp_path / "again")["human_boxes"] is True, "the checkpoint was chosen before it was copied"


class MaskHead(GapHead):
    """CAM's head, which also learns how much of an image its mask covers."""

    pseudo = "masks"

    def loss(self, output, targets, label_smoothing=0.0, pseudo=None):
        assert pseudo.dtype == torch.uint8
        assert pseudo.shape[1:] == (1, 32, 32)
        covered = pseudo.float().mean((1, 2, 3))
        return {**super().loss(output, targets), "mask": (output.logits.sigmoid().mean(1) - covered).square().mean()}


def test_heads_that_ask_for_masks_get_them_and_has_hides_no_target(folders, data_dir: Path, tmp_path: Path) -> None:
    head = ["method=has", "method.head._target_=tests.cli.test_pseudo_targets.MaskHead"]
    assert train(data_dir, tmp_path / "run", *head, f"pseudo={folders['masks']}") == 0
    assert results(tmp_path / "run")["pseudo"]["kind"] == "masks"
