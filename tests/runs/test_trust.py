"""Checkpoints from elsewhere run no code, and a run with a backbone of one's own is opened by those who say so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from wsol import load
from wsol.cli import main
from wsol.errors import InputError
from wsol.runs import checkpoints

PACKAGE = """
from pathlib import Path

from wsol.backbones.tiny import Tiny

Path(__file__).with_name("imported").touch()


class Own(Tiny):
    pass
"""


@pytest.fixture
def own_run(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run whose backbone is of another package, which leaves a mark when it is imported."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "own_networks.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    checkpoint = torch.load(finished_run / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["wsol"]["config"]["backbone"]["_target_"] = "own_networks.Own"
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    checkpoints.write(checkpoint, tmp_path / "run" / "checkpoints" / "best.ckpt")
    checkpoints.write(checkpoint, tmp_path / "own.safetensors")
    yield tmp_path
    sys.modules.pop("own_networks", None)


def commands(folder: Path) -> dict[str, list[str]]:
    from PIL import Image

    Image.new("RGB", (40, 30), "green").save(folder / "green.png")
    run = f"run={folder / 'run'}"
    quick = ["num_workers=0", "trainer.accelerator=cpu", "protocol=cam2016"]
    return {
        "eval": [run, *quick, f"out={folder / 'eval'}"],
        "predict": [run, f"images={folder / 'green.png'}", "device=cpu", f"out={folder / 'predict'}"],
        "export": [run, "format=torch_export", "check=false", f"out={folder / 'own.pt2'}"],
    }


@pytest.mark.parametrize("verb", ["eval", "predict", "export"])
def test_packages_of_ones_own_are_a_matter_of_trust(verb: str, own_run: Path, capsys) -> None:
    words = commands(own_run)[verb]
    assert main([verb, *words]) == 2
    said = capsys.readouterr().err
    assert "backbone._target_=own_networks.Own: a checkpoint may only name" in said
    assert "pass trust=true if you trust" in said
    assert not (own_run / "package" / "imported").exists()
    assert main([verb, *words, "trust=true"]) == 0
    assert (own_run / "package" / "imported").exists()


@pytest.mark.parametrize("name", ["run", "own.safetensors"])
def test_from_python_too(name: str, own_run: Path) -> None:
    with pytest.raises(InputError, match="own_networks"):
        load(own_run / name)
    assert not (own_run / "package" / "imported").exists()
    found = load(own_run / name, trust=True).predict(np.zeros((20, 30, 3), np.uint8))
    assert found.map.shape == (20, 30)


@pytest.mark.parametrize("part", ["backbone", "method.head", "transform.eval", "data", "protocol.cam2016"])
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_no_part_of_a_config_runs_code(part: str, suffix: str, finished_run: Path, tmp_path: Path, capsys) -> None:
    """The parts that are built are refused by their place in the config; what is not built may say what it likes."""
    checkpoint = torch.load(finished_run / "checkpoints" / "best.ckpt", weights_only=True)
    node = checkpoint["wsol"]["config"]
    for key in part.split("."):
        node = node[key]
    node.clear()
    node.update({"_target_": "os.system", "command": f"touch {tmp_path / 'ran'}"})
    file = tmp_path / f"evil{suffix}"
    checkpoints.write(checkpoint, file)
    assert main(["eval", f"run={file}", f"out={tmp_path / 'out'}"]) == 2
    assert f"{part}._target_=os.system: a checkpoint may only name" in capsys.readouterr().err
    if part in ("data", "protocol.cam2016"):
        load(file)
    else:
        with pytest.raises(InputError, match="may only name"):
            load(file)
    assert not (tmp_path / "ran").exists()


def test_checkpoints_hold_nothing_but_tensors_and_plain_data(finished_run: Path) -> None:
    """The optimizer's and the callbacks' states included: Lightning's files load with weights_only as they are."""
    for name in ("best", "last"):
        content = torch.load(finished_run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert {"state_dict", "optimizer_states", "lr_schedulers", "callbacks", "wsol"} <= content.keys()
        assert json.loads(json.dumps(content["wsol"])) == content["wsol"]
