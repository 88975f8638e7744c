"""Files of another kind, damaged ones, and headers and tensors out of their schema."""

from __future__ import annotations

import copy
import io
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.runs.watch import VERBS, Reduced, refused, verb_words, watched
from wsol import load
from wsol.errors import InputError
from wsol.interop import safetensors_file
from wsol.runs import checkpoints


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
        load(post / f"{name}.ckpt")


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
            load(file)
    assert load(whole)


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


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions.*")
@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_the_header_and_the_tensors_have_a_schema(number: int, base: dict, room: Path, post: Path) -> None:
    key, change = SHAPES[number]
    content = {**base, "wsol": copy.deepcopy(base["wsol"]), "state_dict": dict(base["state_dict"])}
    change(content)
    torch.save(content, file := post / "odd.ckpt")
    with watched(room), pytest.raises(InputError) as caught:
        load(file)
    said = str(caught.value)
    assert "odd.ckpt" in said
    assert "\n" not in said
    assert key in said


def test_a_safetensors_header_has_the_same_schema(room: Path, post: Path, base: dict) -> None:
    for text in ("null", "5", '{"format": 1}', '{"format": 1, "config": ' + "[" * 9999 + "]" * 9999 + "}", "{"):
        save_file({"a": torch.zeros(1)}, file := post / "odd.safetensors", {"wsol": text})
        with watched(room), pytest.raises(InputError, match=r"odd\.safetensors"):
            load(file)
