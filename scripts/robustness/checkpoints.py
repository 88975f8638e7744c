"""Checkpoints and weights: damaged, of wrong types, and made to run code."""

from __future__ import annotations

import copy
import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from scripts.robustness.base import prediction
from scripts.robustness.hostile import ESCAPES, NESTED, pickles
from scripts.robustness.runner import Place, Try
from scripts.robustness.sandbox import Outcome
from wsol.interop import safetensors_file

KIND = "checkpoints and weights"
PREDICT = "predict run={inputs}/x.ckpt images={image} out={out}/p device=cpu"
PREDICT_ST = "predict run={inputs}/x.safetensors images={image} out={out}/p device=cpu"
EVAL = "eval run={inputs}/x.ckpt out={out}/e trainer.accelerator=cpu data_dir={data}"
EXPORT = "export run={inputs}/x.ckpt format=safetensors out={out}/x.safetensors"
CONVERT = "convert weights={inputs}/x.pth backbone=resnet18 data=folder data.root={photos} out={out}/c"

HEADER_KEYS = (
    "config",
    "classes",
    "preprocessing",
    "format",
    "config.backbone",
    "config.backbone._target_",
    "config.backbone.widths",
    "config.method",
    "config.method.head",
    "config.method.head.point",
    "config.method.edits",
    "config.transform",
    "config.transform.eval",
    "config.data",
    "preprocessing.mean",
    "preprocessing.std",
    "preprocessing.size",
    "preprocessing.interpolation",
)
WRONG_TYPES: dict[str, Any] = {
    "null": None,
    "a number": 5,
    "text": "x",
    "a list": [],
    "a mapping": {},
    "NaN": math.nan,
}
WRONG_VALUES: dict[str, tuple[str, Any]] = {
    "std of zeros": ("preprocessing.std", [0.0, 0.0, 0.0]),
    "negative std": ("preprocessing.std", [-1.0, 0.2, 0.2]),
    "mean of NaN": ("preprocessing.mean", [math.nan] * 3),
    "mean of two numbers": ("preprocessing.mean", [0.5, 0.5]),
    "mean of texts": ("preprocessing.mean", ["a", "b", "c"]),
    "size -1": ("preprocessing.size", -1),
    "size 0": ("preprocessing.size", 0),
    "size 10**9": ("preprocessing.size", 10**9),
    "unknown interpolation": ("preprocessing.interpolation", "cubicle"),
    "a class too few": ("classes", ["a"] * 7),
    "classes that are numbers": ("classes", [1] * 8),
    "the same class eight times": ("classes", ["a"] * 8),
    "widths of terabytes": ("config.backbone.widths", [10**6, 10**6, 10**6, 10**6]),
    "negative widths": ("config.backbone.widths", [-8, 8, 8, 8]),
    "no widths": ("config.backbone.widths", []),
    "widths of texts": ("config.backbone.widths", ["a", 8, 8, 8]),
    "output stride 3": ("config.backbone.output_stride", 3),
    "an unknown key of the backbone": ("config.backbone.nonsense", 1),
    "an unknown target": ("config.backbone._target_", "wsol.backbones.tiny.Nobody"),
    "a target of no package": ("config.backbone._target_", "no_such_package.Tiny"),
    "a target that is a number": ("config.backbone._target_", 3),
    "edits that are a list": ("config.method.edits", [{"_target_": "wsol.edits.adl.ADL"}]),
    "a format of the future": ("format", 99),
    "a format that is text": ("format", "1"),
}


def tries() -> Iterator[Try]:
    """All of them."""
    yield from _damaged()
    yield from _headers()
    yield from _weights()
    yield from _safetensors()
    yield from _hostile()


def same(place: Place, outcome: Outcome) -> bool:
    """Whether the prediction is that of the undamaged network."""
    return prediction(outcome.said) == place.base.predicted


def _bytes(name: str, change: Callable[[bytes], bytes], suffix: str = "ckpt") -> Callable[[Place], None]:
    def make(place: Place) -> None:
        (place.inputs / f"x.{suffix}").write_bytes(change(place.base.path(name).read_bytes()))

    return make


def content(place: Place) -> dict[str, Any]:
    """What the good checkpoint holds."""
    return torch.load(place.base.path("checkpoint"), map_location="cpu", weights_only=True)


def put(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set a nested entry, on the way through what is there."""
    *parents, last = path.split(".")
    for name in parents:
        tree = tree[name] if isinstance(tree.get(name), dict) else tree.setdefault(name, {})
    tree[last] = value


def header(path: str, value: Any, suffix: str = "ckpt") -> Callable[[Place], None]:
    """A checkpoint, or .safetensors, with one entry of the header changed."""

    def make(place: Place) -> None:
        if suffix == "safetensors":
            raw = place.base.path("safetensors").read_bytes()
            _write_safetensors(place.inputs / "x.safetensors", raw, lambda h: put(h, path, value))
            return
        tree = content(place)
        put(tree["wsol"], path, copy.deepcopy(value))
        torch.save(tree, place.inputs / "x.ckpt")

    return make


def _write_safetensors(file: Path, raw: bytes, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the header that is kept as JSON in the metadata, with a checksum that is right again."""
    length = struct.unpack("<Q", raw[:8])[0]
    own = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"][safetensors_file.ENTRY])
    change(own)
    file.write_bytes(safetensors_file.to_bytes(safetensors.torch.load(raw), own))


def flipped(at: float) -> Callable[[bytes], bytes]:
    """Flip a byte of the data of an entry of a zip: of all entries' bytes, the one at a share of them."""

    def change(raw: bytes) -> bytes:
        spans = []
        with zipfile.ZipFile(io.BytesIO(raw)) as bundle:
            for info in bundle.infolist():
                name, extra = struct.unpack("<HH", raw[info.header_offset + 26 : info.header_offset + 30])
                start = info.header_offset + 30 + name + extra
                spans.append(range(start, start + info.file_size))
        position = int(at * sum(map(len, spans)))
        for span in spans:
            if position < len(span):
                return flip(raw, span[position])
            position -= len(span)
        return flip(raw, len(raw) // 2)

    return change


def flip(raw: bytes, position: int, mask: int = 0x40) -> bytes:
    """Flip some bits of one byte."""
    return raw[:position] + bytes([raw[position] ^ mask]) + raw[position + 1 :]


def _damaged() -> Iterator[Try]:
    for k in range(30):
        share = (k + 0.37) / 30
        yield Try(
            KIND, f".ckpt, byte at {share:.3f} flipped", _bytes("checkpoint", flipped(share)), PREDICT, "either",
            ("x.ckpt",), same,
        )  # fmt: skip
    for share in (0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.9999):
        for name, act, suffix in (("checkpoint", PREDICT, "ckpt"), ("safetensors", PREDICT_ST, "safetensors")):
            change = _cut(share)
            yield Try(KIND, f".{suffix} cut at {share}", _bytes(name, change, suffix), act, "refused", (f"x.{suffix}",))
    texts = {
        "text": b"hello, this is no checkpoint\n",
        "one letter": b"e",
        "lines with colons": b"root:x:0:0:root:/root:/bin/sh\n" * 3,
        "JSON": b'{"wsol": {}}',
        "zeros": bytes(4096),
        "an empty zip": b"PK\x05\x06" + bytes(18),
        "a PNG's signature": b"\x89PNG\r\n\x1a\n" + bytes(64),
        "gzip": b"\x1f\x8b\x08\x00" + bytes(64),
        "a pickled number": b"\x80\x02K\x05.",
    }
    for name, raw in texts.items():
        for suffix, act in (("ckpt", PREDICT), ("safetensors", PREDICT_ST), ("pth", CONVERT)):
            yield Try(
                KIND, f".{suffix} is {name}", _bytes("image", lambda _, raw=raw: raw, suffix), act, "refused",
                (f"x.{suffix}",),
            )  # fmt: skip
    for name, make in (
        ("a FIFO", lambda p: os.mkfifo(p.inputs / "x.ckpt")),
        ("a folder", lambda p: (p.inputs / "x.ckpt").mkdir()),
        ("a link to /dev/zero", lambda p: (p.inputs / "x.ckpt").symlink_to("/dev/zero")),
        ("a dangling link", lambda p: (p.inputs / "x.ckpt").symlink_to("nowhere")),
        ("missing", lambda p: None),
    ):
        yield Try(KIND, f".ckpt is {name}", make, PREDICT, "refused", ("x.ckpt",))
    yield Try(KIND, ".ckpt as it is", _bytes("checkpoint", lambda raw: raw), PREDICT, "accepted", (), same)
    yield Try(KIND, ".ckpt as it is", _bytes("checkpoint", lambda raw: raw), EVAL, "accepted")
    yield Try(KIND, ".safetensors as it is", _bytes("safetensors", bytes, "safetensors"), PREDICT_ST, "accepted")


def _cut(share: float) -> Callable[[bytes], bytes]:
    return lambda raw: raw[: int(share * len(raw))]


def _headers() -> Iterator[Try]:
    for key in HEADER_KEYS:
        for what, value in WRONG_TYPES.items():
            if (key, what) == ("preprocessing.size", "a number"):
                continue
            names = ("x.ckpt", key.rsplit(".", 1)[-1])
            yield Try(KIND, f"{key} is {what}", header(key, value), PREDICT, "either", names, same)
    for what, (key, value) in WRONG_VALUES.items():
        right = "either" if what in ("a format that is text", "the same class eight times") else "refused"
        check = None if what == "the same class eight times" else same  # ImageNet has two classes of one name
        names = ("x.ckpt", *key.split(".")[-2:])
        yield Try(KIND, what, header(key, value), PREDICT, right, names, check)
        if key.startswith(("preprocessing", "classes")):
            made = header(key, value, "safetensors")
            yield Try(KIND, f".safetensors, {what}", made, PREDICT_ST, right, ("x.safetensors", *names[1:]), check)


def _weights() -> Iterator[Try]:
    def state(change: Callable[[dict[str, Any], str], Any]) -> Callable[[Place], None]:
        def make(place: Place) -> None:
            tree = content(place)
            first = next(key for key, value in tree["state_dict"].items() if value.ndim == 4)
            new = change(tree["state_dict"], first)
            tree["state_dict"] = tree["state_dict"] if new is None else new
            torch.save(tree, place.inputs / "x.ckpt")

        return make

    def each(change: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any], str], Any]:
        return lambda s, first: {key: change(value) if value.is_floating_point() else value for key, value in s.items()}

    def one(change: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any], str], Any]:
        return lambda s, first: {**s, first: change(s[first])}

    cases: dict[str, tuple[str, Callable[[dict[str, Any], str], Any]]] = {
        "all weights NaN": ("noted", each(lambda v: torch.full_like(v, math.nan))),
        "one weight NaN": ("noted", one(lambda v: v.flatten().index_fill(0, torch.tensor([0]), math.nan).view_as(v))),
        "one weight infinite": ("noted", one(lambda v: v.flatten().index_fill(0, torch.tensor([0]), math.inf).view_as(v))),
        "int8": ("refused", each(lambda v: v.to(torch.int8))),
        "complex": ("refused", each(lambda v: v.to(torch.complex64))),
        "bool": ("refused", each(lambda v: v.bool())),
        "double": ("either", each(lambda v: v.double())),
        "sparse": ("refused", one(lambda v: v.flatten(1).to_sparse())),
        "quantised": ("refused", one(lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8))),
        "a list": ("refused", one(lambda v: v.tolist())),
        "null": ("refused", one(lambda v: None)),
        "a number": ("refused", one(lambda v: 3.0)),
        "another shape": ("refused", one(lambda v: v[:1])),
        "no dimensions": ("refused", one(lambda v: v.flatten()[0])),
        "transposed": ("refused", one(lambda v: v.transpose(0, 1)[..., :1])),
        "an empty tensor": ("refused", one(lambda v: v[:0])),
        "on the meta device": ("refused", one(lambda v: v.to("meta"))),
        "a missing tensor": ("refused", lambda s, first: {k: v for k, v in s.items() if k != first}),
        "a tensor too many": ("refused", lambda s, first: {**s, f"{first}.more": s[first]}),
        "keys that are numbers": ("refused", lambda s, first: dict(enumerate(s.values()))),
        "an empty state": ("refused", lambda s, first: {}),
        "a state that is null": ("refused", lambda s, first: "null"),
        "a state that is a list": ("refused", lambda s, first: list(s.values())),
    }  # fmt: skip
    for name, (right, change) in cases.items():
        value = same if right == "either" else None
        kept = "refused" if right == "noted" else right  # NaN weights: a refusal is as good as a note
        for act in (PREDICT, EXPORT):
            if right == "noted" and act is EXPORT:
                continue
            expected = "either" if right == "noted" else kept
            judged = _noted if right == "noted" else value if act is PREDICT else None
            yield Try(KIND, f"weights: {name}", state(change), act, expected, ("x.ckpt",), judged)


def _noted(place: Place, outcome: Outcome) -> bool:
    return "not finite" in outcome.said or "NaN" in outcome.said


def _safetensors() -> Iterator[Try]:
    def index(change: Callable[[dict[str, Any], bytes], Any]) -> Callable[[bytes], bytes]:
        def apply(raw: bytes) -> bytes:
            length = struct.unpack("<Q", raw[:8])[0]
            tree = json.loads(raw[8 : 8 + length])
            text = json.dumps(change(tree, raw) or tree).encode()
            return struct.pack("<Q", len(text)) + text + raw[8 + length :]

        return apply

    def first(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
        return index(lambda tree, raw: change(tree[next(key for key in tree if key != "__metadata__")]) and None)

    cases: dict[str, Callable[[bytes], bytes]] = {
        "length of the header 2**63": lambda raw: struct.pack("<Q", 1 << 63) + raw[8:],
        "length of the header 0": lambda raw: bytes(8) + raw[8:],
        "length of the header one too small": lambda raw: struct.pack("<Q", struct.unpack("<Q", raw[:8])[0] - 9) + raw[8:],
        "header no JSON": lambda raw: struct.pack("<Q", 8) + b"{not it}" + raw[8:],
        "header a list": index(lambda tree, raw: [1]),
        "no metadata": index(lambda tree, raw: {k: v for k, v in tree.items() if k != "__metadata__"}),
        "metadata no JSON": index(lambda tree, raw: {**tree, "__metadata__": dict.fromkeys(tree["__metadata__"], "{")}),
        "metadata null": index(lambda tree, raw: {**tree, "__metadata__": dict.fromkeys(tree["__metadata__"], "null")}),
        "offsets beyond the end": first(lambda t: t.update(data_offsets=[0, 1 << 40])),
        "negative offsets": first(lambda t: t.update(data_offsets=[-8, 8])),
        "an unknown dtype": first(lambda t: t.update(dtype="F12")),
        "a shape of terabytes": first(lambda t: t.update(shape=[1 << 40])),
        "a byte too many": lambda raw: raw + b"x",
    }  # fmt: skip
    for name, change in cases.items():
        yield Try(
            KIND, f".safetensors, {name}", _bytes("safetensors", change, "safetensors"), PREDICT_ST, "refused",
            ("x.safetensors",),
        )  # fmt: skip
    for k in range(8):

        def damage(raw: bytes, k: int = k) -> bytes:
            start = 8 + struct.unpack("<Q", raw[:8])[0]
            return flip(raw, start + 3 + 4 * int((k + 0.5) / 8 * ((len(raw) - start) // 4)))

        made = _bytes("safetensors", damage, "safetensors")
        yield Try(KIND, f".safetensors, weight {k}/8 flipped", made, PREDICT_ST, "either", ("x.safetensors",), same)


def _hostile() -> Iterator[Try]:
    for name, raw in pickles().items():
        for suffix, act in (("ckpt", PREDICT), ("pth", CONVERT)):

            def make(place: Place, raw: Callable[[str], bytes] = raw, suffix: str = suffix) -> None:
                (place.inputs / f"x.{suffix}").write_bytes(raw(str(place.canary)))

            yield Try(KIND, f"pickle of {name}, .{suffix}", make, act, "refused", (f"x.{suffix}",))
    for (name, text), key in ((e, k) for e in ESCAPES.items() for k in _ESCAPED):
        for suffix, act in (("ckpt", PREDICT), ("safetensors", PREDICT_ST)):

            def plant(place: Place, text: str = text, key: str = key, suffix: str = suffix) -> None:
                header(key, text.replace("CANARY", str(place.canary)), suffix)(place)

            names = (f"x.{suffix}", *key.split(".")[-2:])
            yield Try(KIND, f"{name} in {key}, .{suffix}", plant, act, "either", names, same)
    for name, node in NESTED.items():
        for key in ("config.backbone.widths", "config.method.head"):

            def nest(place: Place, node: dict[str, Any] = node, key: str = key) -> None:
                text = json.dumps(node).replace("CANARY", str(place.canary))
                header(key, json.loads(text))(place)

            yield Try(KIND, f"{name} under {key}", nest, PREDICT, "refused", ("x.ckpt", *key.split(".")[-2:], name))
    for name in ("Creatures", "MapWriter", "PredictionWriter"):

        def data(place: Place, node: dict[str, Any] = NESTED[name]) -> None:
            header("config.data", json.loads(json.dumps(node).replace("CANARY", str(place.canary))))(place)

        yield Try(KIND, f"{name} as data", data, EVAL, "refused", ("x.ckpt", "data", name))


_ESCAPED = ("config.backbone.preprocessing.mean", "config.method.head.dropout", "config.backbone.widths")
