"""`wsol eval` on a small finished run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from tests.conftest import SMALL_RUN
from wsol.cli import main

QUICK = ["num_workers=0", "trainer.accelerator=cpu"]


def rows(folder: Path) -> list[dict]:
    return json.loads((folder / "results.json").read_text())["localization"]


def test_evaluating_again_gives_the_same_digits(finished_run: Path, tmp_path: Path) -> None:
    assert main(["eval", f"run={finished_run}", f"out={tmp_path / 'out'}", *QUICK]) == 0
    assert rows(tmp_path / "out") == rows(finished_run)
    assert (tmp_path / "out" / "pictures.png").stat().st_size > 1000


def test_other_protocols_and_settings_are_laid_over_the_run(finished_run: Path, tmp_path: Path, capsys) -> None:
    words = ["protocol=cam2016", "protocol.cam2016.origins=[fixed,fullsup,oracle]", "topk=[1,3]", "batch_size=5"]
    assert main(["eval", f"run={finished_run}", f"out={tmp_path / 'out'}", *QUICK, *words]) == 0
    own = [row for row in rows(tmp_path / "out") if row["maps"] == "localizer" and row["split"] == "test"]
    assert [(row["protocol"], row["threshold_origin"]) for row in own] == [
        ("cam2016", "fixed"),
        ("cam2016", "fullsup"),
        ("cam2016", "oracle"),
    ]
    assert "top3_error" in own[0]
    assert "top-3" in capsys.readouterr().out


def test_ten_views_are_evaluated(finished_run: Path, tmp_path: Path) -> None:
    words = ["transform=ten_crop", "image_size=28", "protocol=cam2016"]
    assert main(["eval", f"run={finished_run}", f"out={tmp_path / 'out'}", *QUICK, *words]) == 0
    assert rows(tmp_path / "out")[0]["images"] == 16


def test_the_val_split_and_the_last_checkpoint_can_be_evaluated(finished_run: Path, tmp_path: Path) -> None:
    assert main(["eval", f"run={finished_run}", "split=val", "checkpoint=last", f"out={tmp_path / 'out'}", *QUICK]) == 0
    assert {row["split"] for row in rows(tmp_path / "out")} == {"val"}


def test_the_data_may_lie_elsewhere_or_be_chosen_anew(finished_run: Path, tmp_path: Path, data_dir: Path) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(data_dir / "creatures", other / "creatures")
    moved = ["eval", f"run={finished_run}", f"data_dir={other}", f"out={tmp_path / 'moved'}", *QUICK]
    assert main(moved) == 0
    assert OmegaConf.load(tmp_path / "moved" / "config.yaml").data.root == str(other / "creatures")
    chosen = [word for word in SMALL_RUN if word.startswith("data.")]
    words = ["data=creatures", *chosen, f"out={tmp_path / 'chosen'}", *QUICK]
    assert main(["eval", f"run={finished_run}", *words]) == 0
    assert rows(tmp_path / "moved") == rows(tmp_path / "chosen") == rows(finished_run)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which run?"),
        (["run=/nowhere"], "/nowhere: not a run"),
        (["run={run}", "checkpoint=bset"], "did you mean 'best'"),
        (["run={run}", "split=tset"], "did you mean 'test'"),
        (["run={run}", "out={run}"], "is not an empty folder, and not an earlier output of `wsol eval`"),
        (["run={run}", "data=cub", "data.root=/nowhere"], "/nowhere: no such folder"),
        (["run={run}", "topk=[9]"], "top-9 of 8 classes"),
        (["run={run}", "protocol=cam2106"], "did you mean 'cam2016'"),
        (["run={run}", "data=creatures", "data.num_classes=3", "topk=[1]", "data_dir={tmp}"], "trained on 8 classes"),
    ],
)
def test_bad_input_is_one_clear_message(finished_run: Path, tmp_path: Path, capsys, words, message) -> None:
    assert main(["eval", *(word.format(run=finished_run, tmp=tmp_path) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def altered(finished_run: Path, tmp_path: Path, change) -> Path:
    checkpoint = torch.load(finished_run / "checkpoints" / "last.ckpt", weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / "altered.ckpt")
    return tmp_path / "altered.ckpt"


def test_a_checkpoint_of_another_architecture_is_refused(finished_run: Path, tmp_path: Path, capsys) -> None:
    def change(checkpoint: dict) -> None:
        checkpoint["wsol"]["config"]["backbone"]["widths"] = [4, 4, 4, 4]

    assert main(["eval", f"run={altered(finished_run, tmp_path, change)}", *QUICK]) == 2
    assert "belong to another architecture (of another shape: " in capsys.readouterr().err


@pytest.mark.parametrize("part", ["data", "transform.eval", "loader", "protocol.cam2016", "method.head"])
def test_no_part_of_a_checkpoint_can_name_code_to_run(finished_run: Path, tmp_path: Path, capsys, part: str) -> None:
    def change(checkpoint: dict) -> None:
        *way, last = part.split(".")
        node = checkpoint["wsol"]["config"]
        for key in way:
            node = node[key]
        node[last] = {"_target_": "pathlib.Path.touch", "self": str(tmp_path / "ran")}

    assert main(["eval", f"run={altered(finished_run, tmp_path, change)}", f"out={tmp_path / 'out'}", *QUICK]) == 2
    assert f"{part}._target_=pathlib.Path.touch" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("target", ["os.system", "torch.hub.load"])
def test_a_checkpoint_cannot_name_code_to_run(finished_run: Path, tmp_path: Path, capsys, target: str) -> None:
    def change(checkpoint: dict) -> None:
        checkpoint["wsol"]["config"]["backbone"] = {"_target_": target, "command": "touch ran"}

    assert main(["eval", f"run={altered(finished_run, tmp_path, change)}", *QUICK]) == 2
    assert "pass trust=true" in capsys.readouterr().err
