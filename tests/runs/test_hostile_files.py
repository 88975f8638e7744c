"""Files from strangers, fed to what reads them: nothing runs, nothing is written, and one line says what is wrong."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from wsol import Localizer
from wsol.cli import main
from wsol.errors import InputError
from wsol.interop import safetensors_file
from wsol.runs import checkpoints

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "os.fork")
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")

seen: list[str] | None = None
"""What the audit hook notes; None while nobody watches."""


def _hook(event: str, args: tuple) -> None:
    if seen is None:
        return
    if event == "open" and isinstance(args[2], int) and args[2] & WRITES and isinstance(args[0], str | bytes):
        path = os.fsdecode(args[0])
        if "__pycache__" not in path and not path.startswith("/dev/"):
            seen.append(f"open {path} {args[2]:o}")
    elif event in FORBIDDEN or (event in CHANGES and "__pycache__" not in str(args[0])):
        seen.append(f"{event} {args}")


sys.addaudithook(_hook)


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Fail if anything is opened for writing, started, or changed in a folder."""
    global seen
    before, seen = snapshot(folder), []
    try:
        yield
    finally:
        noted, seen = seen, None
    assert not noted
    assert snapshot(folder) == before


def snapshot(folder: Path) -> dict[str, tuple]:
    files = sorted(folder.rglob("*"))
    return {
        str(file): (file.stat().st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "")
        for file in files
    }


@pytest.fixture(scope="module")
def base(finished_run: Path) -> dict:
    """A whole checkpoint; read once by the verbs' own reader, so that no library's import is taken for a deed of it."""
    import pytorch_lightning.loggers  # noqa: F401

    import wsol.backbones.timm  # noqa: F401

    Localizer.from_checkpoint(finished_run)
    return torch.load(finished_run / "checkpoints" / "best.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The watched folder: a file worth keeping, and a picture."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "notes.txt").write_text("nine bytes")
    (folder / "pictures").mkdir()
    Image.new("RGB", (40, 30), "green").save(folder / "pictures" / "green.png")
    return folder


@pytest.fixture
def post(tmp_path_factory: pytest.TempPathFactory, room: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the hostile file lies; the current folder is the watched one."""
    monkeypatch.chdir(room)
    return tmp_path_factory.mktemp("post")


def verb_words(verb: str, file: Path) -> list[str]:
    words = {
        "predict": [f"run={file}", "images=pictures", "device=cpu", "out=out"],
        "eval": [f"run={file}", "num_workers=0", "trainer.accelerator=cpu", "out=out"],
        "export": [f"run={file}", "format=torch_export", "out=out.pt2"],
        "units": [f"run={file}", "num_workers=0", "device=cpu", "out=out"],
        "svm": [f"run={file}", "num_workers=0", "device=cpu", "out=out"],
        "convert": [f"weights={file}", f"out=out{'' if file.suffix == '.safetensors' else '.safetensors'}"],
    }
    return [verb, *words[verb]]


def refused(room: Path, capsys: pytest.CaptureFixture, words: list[str], file: Path) -> str:
    """Run a command on a hostile file; return the one line that it says."""
    capsys.readouterr()
    with watched(room):
        assert main(words) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("wsol: error")]
    assert len(said) == 1, said
    assert file.name in said[0]
    return said[0]


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
VERBS = ("predict", "eval", "units", "svm", "export")


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
            Localizer.from_checkpoint(file)


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
        Localizer.from_checkpoint(file)


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
    assert "may only have creatures drawn below data" in capsys.readouterr().err
    hostile["wsol"]["config"]["data"].update(val_images=10**7, size=512)
    checkpoints.write(hostile, file)
    with watched(room):
        assert main(verb_words("svm", file)) == 2
    assert "GiB, more than a file may ask for" in capsys.readouterr().err


class Reduced:
    def __init__(self, *called: Any) -> None:
        self.called = called

    def __reduce__(self) -> tuple:
        return self.called[0], self.called[1:]


def _zipped(file: Path, records: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in records.items():
            archive.writestr(name, content)


def _records(content: object) -> dict[str, bytes]:
    torch.save(content, whole := io.BytesIO())
    with zipfile.ZipFile(whole) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _lying_storage(file: Path) -> None:
    """A storage of more numbers than its record holds: PyTorch would read beyond it."""
    records = _records({"state_dict": {"a": torch.arange(4000.0)}, "wsol": {}})
    name = next(name for name in records if "/data/0" in name)
    _zipped(file, {**records, name: records[name][:64]})


def _packed(file: Path) -> None:
    _zipped(file, _records({"state_dict": {}, "wsol": {}}), zipfile.ZIP_DEFLATED)


def _script(file: Path) -> None:
    _zipped(file, {"a/data.pkl": b"", "a/constants.pkl": b"", "a/code/x.py": b""})


RAW: list[tuple[str, Callable[[Path], object], str]] = [
    ("text", lambda f: f.write_text("not a checkpoint, but a letter\n" * 40), "plain text"),
    ("passwd", lambda f: f.write_text("root:x:0:0:root:/root:/bin/bash\n"), "plain text"),
    ("page", lambda f: f.write_text("<html>404</html>"), "plain text"),
    ("empty", lambda f: f.write_bytes(b""), "the file is empty"),
    ("noise", lambda f: f.write_bytes(bytes(range(256)) * 9), "not a PyTorch checkpoint|pickled objects"),
    ("zeros", lambda f: f.write_bytes(bytes(4096)), "not a PyTorch checkpoint|pickled objects"),
    ("tar", lambda f: f.write_bytes(bytes(257) + b"ustar" + bytes(800)), "tar archive"),
    ("zip", lambda f: _zipped(f, {"a.txt": b"x"}), "zip archive of other files"),
    ("packed", _packed, "not written by torch.save"),
    ("script", _script, "TorchScript"),
    ("storage", _lying_storage, "declares 16,000 bytes"),
    ("system", lambda f: torch.save({"state_dict": Reduced(os.system, "touch ran"), "wsol": {}}, f), r"posix\.system"),
    ("exec", lambda f: torch.save([Reduced(exec, "open('ran', 'w')")], f), r"objects of (builtins\.)?exec"),
    ("path", lambda f: torch.save({"wsol": Path("ran")}, f), r"objects of pathlib"),
    ("old", lambda f: torch.save(Reduced(os.system, "x"), f, _use_new_zipfile_serialization=False), r"posix\.system"),
    ("plain", lambda f: f.write_bytes(pickle.dumps(Reduced(os.system, "touch ran"))), r"posix\.system|pickled"),
    ("first", lambda f: f.write_bytes(b"cos\nsystem\n(S'touch ran'\ntR."), r"os\.system|pickled|plain"),
]


@pytest.mark.parametrize("number", range(len(RAW)), ids=[name for name, *_ in RAW])
def test_files_of_another_kind_say_what_they_are(number: int, room: Path, post: Path, capsys) -> None:
    name, write, message = RAW[number]
    for suffix, verb in ((".ckpt", VERBS[number % 5]), ((".pth", ".pt")[number % 2], "convert")):
        write(file := post / f"{name}{suffix}")
        said = refused(room, capsys, verb_words(verb, file), file)
        assert re.search(message, said), said
    with watched(room), pytest.raises(InputError, match=message):
        Localizer.from_checkpoint(post / f"{name}.ckpt")


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_flipped_byte_is_found(suffix: str, base: dict, room: Path, post: Path, capsys) -> None:
    whole = post / f"whole{suffix}"
    checkpoints.write(base, whole)
    content = whole.read_bytes()
    places = [int(len(content) * part) for part in (0.2, 0.35, 0.5, 0.65, 0.8)]
    for i, (at, verb) in enumerate(zip(places, ("predict", "eval", "export", "units", "convert"), strict=True)):
        torn = bytearray(content)
        torn[at] ^= 16
        (file := post / f"torn{i}{suffix}").write_bytes(torn)
        said = refused(room, capsys, verb_words(verb, file), file)
        assert "damaged" in said or "not a readable" in said
        with pytest.raises(InputError, match=r"torn\d"):
            Localizer.from_checkpoint(file)
    assert Localizer.from_checkpoint(whole)


def test_every_byte_of_a_safetensors_file_counts(tmp_path: Path) -> None:
    header = {"format": 1, "config": {}, "classes": ["a", "b"]}
    content = safetensors_file.to_bytes({"w": torch.arange(3.0), "n": torch.tensor(1)}, header)
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    found = safetensors_file.read(file)[1]
    assert found == header
    for at in range(len(content)):
        torn = bytearray(content)
        torn[at] ^= 1
        file.write_bytes(torn)
        with pytest.raises(InputError, match=r"a\.safetensors"):
            safetensors_file.read(file)


def test_a_damaged_checkpoint_names_another_one_of_the_run(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run / "checkpoints", tmp_path / "checkpoints")
    best = tmp_path / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:-900])
    with pytest.raises(InputError, match=r"best\.ckpt: damaged: .* such as last\.ckpt, or train again"):
        checkpoints.read(best)


def test_a_hostile_checkpoint_is_not_resumed(finished_run: Path, room: Path, post: Path, capsys, data_dir) -> None:
    from tests.conftest import SMALL_RUN

    shutil.copytree(finished_run, post / "run")
    (post / "run" / "results.json").unlink()
    (post / "run" / "checkpoints" / "best.ckpt").unlink()
    torch.save({"wsol": Reduced(os.system, "touch ran"), "state_dict": {}}, post / "run" / "checkpoints" / "last.ckpt")
    before = snapshot(room)
    assert main(["train", *SMALL_RUN, f"data_dir={data_dir}", f"run_dir={post / 'run'}", "resume=true"]) == 2
    assert "last.ckpt: carries pickled objects of posix.system" in capsys.readouterr().err
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


def _tensors(**changes: Any) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        key = next(key for key in content["state_dict"] if key.endswith("conv1.0.weight"))
        for what, value in changes.items():
            content["state_dict"][key] = value(content["state_dict"][key]) if what == "weight" else value

    return change


def _set(*keys: str, to: Any) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return change


SHAPES: list[tuple[str, Callable[[dict], None]]] = [
    *[("config", _set("wsol", "config", to=value)) for value in (None, 5, "x", [], {})],
    *[("classes", _set("wsol", "classes", to=value)) for value in (None, 5, [], [1], "ab")],
    ("head.classifier", _set("wsol", "classes", to=["a"])),
    *[("preprocessing", _set("wsol", "preprocessing", to=value)) for value in (None, {}, [1], {"mean": [0, 0, 0]})],
    *[
        ("preprocessing.mean", _set("wsol", "preprocessing", "mean", to=value))
        for value in ([0.5], [float("nan"), 0, 0], "abc", [0, 0, "x"], None)
    ],
    *[
        ("preprocessing.std", _set("wsol", "preprocessing", "std", to=value))
        for value in ([0, 1, 1], [1, 1], [-1, 1, 1], [float("inf"), 1, 1])
    ],
    *[("preprocessing.size", _set("wsol", "preprocessing", "size", to=value)) for value in (0, -3, 1.5, True, 10**9)],
    *[("preprocessing.interpolation", _set("wsol", "preprocessing", "interpolation", to=v)) for v in ("x", None, [])],
    *[
        (f"config.{key}", _set("wsol", "config", key, to=value))
        for key in ("backbone", "method", "transform")
        for value in (None, 5, {}, [])
    ],
    *[("config.data", _set("wsol", "config", "data", to=value)) for value in (5, {}, [])],
    ("config.method.edits", _set("wsol", "config", "method", "edits", to=[1])),
    ("config.method.head", _set("wsol", "config", "method", "head", to=None)),
    ("config.loader", _set("wsol", "config", "loader", to="x")),
    ("config.protocol", _set("wsol", "config", "protocol", to=[])),
    ("config.transform.eval", _set("wsol", "config", "transform", "eval", to=3)),
    ("config.backbone", _set("wsol", "config", "backbone", "_target_", to=None)),
    *[("state_dict", _set("state_dict", to=value)) for value in (None, [], 5)],
    ("state_dict", lambda content: content["state_dict"].update({3: torch.zeros(1)})),
    ("conv1.0.weight", _tensors(other=[1.0])),
    ("conv1.0.weight", _tensors(weight=lambda w: w.to_sparse())),
    ("conv1.0.weight", _tensors(weight=lambda w: w.to("meta"))),
    ("conv1.0.weight", _tensors(weight=lambda w: w.to(torch.int8))),
    ("conv1.0.weight", _tensors(weight=lambda w: w.to(torch.complex64))),
    ("conv1.0.weight", _tensors(weight=lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8))),
    ("conv1.0.weight", _tensors(weight=lambda w: w * float("nan"))),
    ("conv1.0.weight", _tensors(weight=lambda w: w + float("inf"))),
    ("conv1.0.weight", _tensors(weight=lambda w: torch.zeros(1).expand(10**13))),
    ("conv1.0.weight", _tensors(weight=lambda w: w[:, :1])),
]


@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_the_header_and_the_tensors_have_a_schema(number: int, base: dict, room: Path, post: Path) -> None:
    key, change = SHAPES[number]
    content = {**base, "wsol": copy.deepcopy(base["wsol"]), "state_dict": dict(base["state_dict"])}
    change(content)
    torch.save(content, file := post / "odd.ckpt")
    with watched(room), pytest.raises(InputError) as caught:
        Localizer.from_checkpoint(file)
    said = str(caught.value)
    assert "odd.ckpt" in said
    assert "\n" not in said
    assert key in said


def test_a_safetensors_header_has_the_same_schema(room: Path, post: Path, base: dict) -> None:
    for text in ("null", "5", '{"format": 1}', '{"format": 1, "config": ' + "[" * 9999 + "]" * 9999 + "}", "{"):
        save_file({"a": torch.zeros(1)}, file := post / "odd.safetensors", {"wsol": text})
        with watched(room), pytest.raises(InputError, match=r"odd\.safetensors"):
            Localizer.from_checkpoint(file)


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
