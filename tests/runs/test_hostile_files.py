"""Files from strangers, fed to what reads them: nothing runs, nothing is written, and one line says what is wrong."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.conftest import SMALL_RUN
from tests.runs.watch import VERBS, Reduced, refused, snapshot, verb_words, watched
from wsol import load
from wsol.cli import main
from wsol.errors import InputError
from wsol.runs import checkpoints

# What a config may try to build. `TARGET` stands for the file that would be written or read.
TARGETS: list[tuple[str, dict[str, Any]]] = [
    ("os.system", {"command": "touch ran"}),
    ("posix.system", {"command": "touch ran"}),
    ("subprocess.run", {"args": ["touch", "ran"]}),
    ("subprocess.Popen", {"args": ["touch", "ran"]}),
    ("builtins.exec", {"source": "open('ran', 'w')"}),
    ("builtins.open", {"file": "notes.txt", "mode": "w"}),
    ("runpy.run_path", {"path_name": "TARGET"}),
    ("timeit.timeit", {"stmt": "open('ran', 'w')"}),
    ("numpy.testing.runstring", {"astr": "open('ran', 'w')", "dict": {}}),
    ("numpy.load", {"file": "TARGET", "allow_pickle": True}),
    ("numpy.save", {"file": "ran", "arr": [1]}),
    ("torch.load", {"f": "TARGET", "weights_only": False}),
    ("torch.save", {"obj": 1, "f": "ran"}),
    ("torch.hub.load", {"repo_or_dir": ".", "model": "x", "source": "local"}),
    ("torch.hub.download_url_to_file", {"url": "file:///etc/hosts", "dst": "ran"}),
    ("torch.jit.load", {"f": "TARGET"}),
    ("torch.utils.collect_env.run", {"command": "touch ran"}),
    ("torch.utils.cpp_extension.load", {"name": "x", "sources": ["TARGET"]}),
    ("torch.fx.graph_module._exec_with_source", {"src": "open('ran', 'w')", "globals": {}}),
    ("torch.package.PackageImporter", {"file_or_buffer": "TARGET"}),
    ("torch.nn.Module", {}),
    ("torchvision.datasets.FakeData", {}),
    ("timm.create_model", {"model_name": "resnet18", "checkpoint_path": "TARGET"}),
    ("joblib.load", {"filename": "TARGET"}),
    ("pathlib.Path.write_text", {"self": "ran", "data": "x"}),
    ("shutil.rmtree", {"path": "pictures"}),
    ("shutil.copyfile", {"src": "notes.txt", "dst": "ran"}),
    ("tempfile.mkdtemp", {"dir": "."}),
    ("logging.FileHandler", {"filename": "ran"}),
    ("sqlite3.connect", {"database": "ran"}),
    ("cv2.imwrite", {"filename": "ran.png", "img": []}),
    ("hydra.utils.instantiate", {"config": {}}),
    ("hydra.utils.get_method", {"path": "os.system"}),
    ("omegaconf.OmegaConf.load", {"file_": "TARGET"}),
    ("pytorch_lightning.Trainer", {"default_root_dir": "ran"}),
    ("pytorch_lightning.loggers.CSVLogger", {"save_dir": "ran"}),
    ("pytorch_lightning.loggers.TensorBoardLogger", {"save_dir": "ran"}),
    ("wsol.interop.predictions.PredictionWriter", {"file": "notes.txt", "classes": ["a"]}),
    ("wsol.interop.map_store.MapWriter", {"folder": "ran", "classes": ["a"], "header": {}}),
    ("wsol.loggers.metrics_csv.MetricsCsv", {"file": "notes.txt"}),
    ("wsol.loggers.wandb.logger", {"folder": "ran"}),
    ("wsol.runs.folder.write_text", {"file": "notes.txt", "text": "x"}),
    ("wsol.runs.checkpoints.write", {"checkpoint": {}, "path": "ran"}),
    ("wsol.files.atomic_file", {"target": "notes.txt"}),
    ("wsol.backbones.weights.read_state", {"path": "TARGET"}),
    ("wsol.backbones.weights.torch.load", {"f": "TARGET"}),
    ("wsol.backbones.weights.Path", {}),
    ("wsol.heads.base.nn.Module", {}),
    ("wsol.data.datasets.creatures.shutil.rmtree", {"path": "pictures"}),
    ("wsol.data.datasets.creatures.CreatureSplit", {"name": "test", "folder": "."}),
    ("wsol.data.transforms.np.save", {"file": "ran", "arr": 1}),
    ("wsol.protocols.Path", {}),
    ("wsol.cli.__main__", {}),
    ("..system", {}),
    (["os.system"], {}),
]

PLACES: list[tuple[str, ...]] = [
    ("backbone",),
    ("method", "head"),
    ("method", "edits", "conv2"),
    ("transform", "eval"),
    ("data",),
    ("protocol", "cam2016"),
    ("loader",),
    ("backbone", "widths"),
    ("method", "head", "pool"),
    ("transform", "eval", "interpolation"),
    ("data", "seed"),
]
OF_THE_NETWORK = ("backbone", "method", "transform")


def put(config: dict, keys: tuple[str, ...], value: Any) -> None:
    for key in keys[:-1]:
        config[key] = config.get(key) or {}
        config = config[key]
    config[keys[-1]] = value


@pytest.mark.parametrize("number", range(len(TARGETS)), ids=[str(name) for name, _ in TARGETS])
def test_no_target_is_called(number: int, base: dict, room: Path, post: Path, capsys) -> None:
    """At a place of the config that goes round, whole and partial, in both formats, by a verb that goes round."""
    name, arguments = TARGETS[number]
    keys = PLACES[number % len(PLACES)]
    (post / "target.py").write_text("open('ran', 'w')")
    node = {k: str(post / "target.py") if v == "TARGET" else v for k, v in arguments.items()}
    node = {"_target_": name, **node, **({"_partial_": True} if number % 2 else {})}
    hostile = {**base, "wsol": copy.deepcopy(base["wsol"])}
    put(hostile["wsol"]["config"], keys, node)
    file = post / ("a.safetensors" if number % 3 == 0 else "a.ckpt")
    checkpoints.write(hostile, file)
    verb = "eval" if keys[0] == "protocol" else VERBS[number % (5 if keys[0] in OF_THE_NETWORK else 4)]
    said = refused(room, capsys, verb_words(verb, file), file)
    assert keys[-1] in said or "config." in said
    if keys[0] in OF_THE_NETWORK:
        with watched(room), pytest.raises(InputError, match=keys[0]):
            load(file)


CODE = r"""${oc.create:'{_target_: numpy.testing.runstring, astr: "open(1)", dict: {}}'}"""
TEXTS: list[tuple[tuple[str, ...], Any]] = [
    (("backbone", "preprocessing"), {"mean": "\\" + CODE}),
    (("backbone", "widths"), ["\\" + CODE]),
    (("method", "head", "pool"), "\\" + CODE),
    (("data", "root"), CODE),
    (("data", "root"), "${oc.env:HOME}"),
    (("name",), "${oc.env:HOME}"),
    (("transform", "eval", "interpolation"), "\\\\${oc.env:HOME}"),
    (("protocol", "cam2016", "reference"), "a ${oc.decode:'1'} b"),
    (("choices",), {"${oc.env:HOME}": 1}),
    (("optim", "note"), [{"deep": ["x", "${hydra:runtime.cwd}"]}]),
    (("loader", "num_workers"), "${data.seed}"),
    (("backbone", "output_stride"), "???"),
]


@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_nothing_is_resolved(number: int, base: dict, room: Path, post: Path, capsys) -> None:
    keys, value = TEXTS[number]
    hostile = {**base, "wsol": copy.deepcopy(base["wsol"])}
    put(hostile["wsol"]["config"], keys, value)
    file = post / ("a.safetensors" if number % 2 else "a.ckpt")
    checkpoints.write(hostile, file)
    verb = (*VERBS, "convert")[number % 6]
    said = refused(room, capsys, verb_words(verb, file), file)
    assert "without interpolations" in said
    assert f"config.{keys[0]}" in said
    with watched(room), pytest.raises(InputError, match="without interpolations"):
        load(file)


def timm(**options: Any) -> dict:
    return {"_target_": "wsol.backbones.timm.Timm", "name": "resnet10t", "options": options}


VALUES: list[tuple[tuple[str, ...], Any, str]] = [
    (("backbone",), timm(checkpoint_path="/etc/hosts"), "options.checkpoint_path"),
    (("backbone",), timm(pretrained=True), "options.pretrained"),
    (("backbone",), timm(pretrained_cfg={"file": "/etc/hosts"}), "options.pretrained_cfg"),
    (("backbone",), timm(pretrained_cfg_overlay={"url": "http://localhost"}), "options.pretrained_cfg_overlay"),
    (("backbone",), timm(cache_dir="ran"), "options.cache_dir"),
    (("backbone",), timm(stem_width=2**24), "numbers"),
    (("backbone", "widths"), [16, 32, 2**20, 2**20], "numbers"),
    (("backbone", "widths"), [10**30] * 4, "widths"),
    (("backbone", "widths"), "abc", "widths"),
    (("method", "head", "conv_channels"), 2**28, "numbers"),
    (("method", "head", "dropout"), [1], "dropout"),
    (("image_size",), 10**9, "image_size"),
    (("transform", "eval", "size"), 10**9, "transform.eval.size"),
    (("loader", "num_workers"), 10**6, "loader.num_workers"),
    (("data", "train_images"), 10**12, "data.train_images"),
    (("data", "root"), 5, "data.root"),
    (("data", "root"), ["a"], "data.root"),
]


@pytest.mark.parametrize("number", range(len(VALUES)), ids=[f"{'.'.join(keys)}" for keys, *_ in VALUES])
def test_no_value_reads_files_or_takes_the_machine(number: int, base: dict, room: Path, post: Path, capsys) -> None:
    keys, value, message = VALUES[number]
    hostile = {**base, "wsol": copy.deepcopy(base["wsol"])}
    put(hostile["wsol"]["config"], keys, value)
    checkpoints.write(hostile, file := post / "a.ckpt")
    assert message in refused(room, capsys, verb_words(("eval", "predict")[number % 2], file), file)


@pytest.mark.parametrize("root", ["{tmp}/elsewhere", "data/../elsewhere", "pictures"])
def test_creatures_are_drawn_below_the_readers_data_dir_only(root: str, base: dict, room, post: Path, capsys) -> None:
    hostile = {**base, "wsol": copy.deepcopy(base["wsol"])}
    hostile["wsol"]["config"]["data"].update(root=root.format(tmp=room), seed=77, train_images=1)
    hostile["wsol"]["config"]["data_dir"] = root.format(tmp=room)
    checkpoints.write(hostile, file := post / "a.ckpt")
    with watched(room):
        assert main(verb_words("svm", file)) == 2
    assert "creatures are only drawn below data" in capsys.readouterr().err
    hostile["wsol"]["config"]["data"].update(val_images=10**7, size=512)
    checkpoints.write(hostile, file)
    with watched(room):
        assert main(verb_words("svm", file)) == 2
    assert "GiB, more than a file may ask for" in capsys.readouterr().err


def test_a_hostile_checkpoint_is_not_resumed(finished_run: Path, room: Path, post: Path, capsys, data_dir) -> None:
    shutil.copytree(finished_run, post / "run")
    (post / "run" / "results.json").unlink()
    for name in ("best.ckpt", "previous.ckpt"):
        (post / "run" / "checkpoints" / name).unlink()
    torch.save({"wsol": Reduced(os.system, "touch ran"), "state_dict": {}}, post / "run" / "checkpoints" / "last.ckpt")
    before = snapshot(room)
    assert main(["train", *SMALL_RUN, f"data_dir={data_dir}", f"run_dir={post / 'run'}", "resume=true"]) == 2
    assert "last.ckpt: contains pickled objects of posix.system" in capsys.readouterr().err
    assert snapshot(room) == before


YAMLS = {
    "tag": "data: !!python/object/apply:os.system ['touch ran']\n",
    "module": "data: !!python/module:this {}\n",
    "target": "data: {_target_: os.system, command: touch ran}\n",
    "writer": "data: {_target_: wsol.interop.predictions.PredictionWriter, file: notes.txt, classes: [a]}\n",
    "escaped": "data: {_target_: wsol.data.datasets.creatures.Creatures, root: '\\${oc.create:x}'}\n",
    "environment": "data: {_target_: wsol.data.datasets.creatures.Creatures, root: '${oc.env:HOME}'}\n",
    "elsewhere": "data: {_target_: wsol.data.datasets.creatures.Creatures, root: pictures, seed: 78}\n",
    "scalar": "data: 5\n",
}


@pytest.mark.parametrize("verb", ["report", "score"])
@pytest.mark.parametrize("name", YAMLS)
def test_config_yaml_of_a_run(name: str, verb: str, room: Path, post: Path, capsys) -> None:
    (post / "maps" / "test").mkdir(parents=True)
    (post / "config.yaml").write_text(YAMLS[name])
    words = {"report": [f"runs={post}"], "score": [f"maps={post / 'maps' / 'test'}"]}[verb]
    with watched(room):
        assert main([verb, *words, "out=out"]) == 2
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("wsol: error")]) == 1


def test_a_run_of_ones_own_needs_no_word(finished_run: Path, base: dict, tmp_path: Path, monkeypatch) -> None:
    """Its creatures are drawn already; a dataset of the command line is drawn wherever that says."""
    monkeypatch.chdir(tmp_path)
    quick = ["num_workers=0", "trainer.accelerator=cpu", "protocol=cam2016"]
    assert main(["eval", f"run={finished_run}", *quick, "out=one"]) == 0
    results = json.loads(Path("one/results.json").read_text())
    assert results["localization"]
    hostile = {**base, "wsol": copy.deepcopy(base["wsol"])}
    hostile["wsol"]["config"]["data"].update(root="mine/creatures", seed=79)
    hostile["wsol"]["config"]["data_dir"] = "mine"
    checkpoints.write(hostile, Path("a.ckpt"))
    assert main(["eval", "run=a.ckpt", *quick, "out=two"]) == 2
    assert not Path("mine").exists()
    assert main(["eval", "run=a.ckpt", *quick, "data_dir=mine", "out=three"]) == 0
    assert yaml.safe_load(Path("three/config.yaml").read_text())["data"]["root"] == "mine/creatures"
