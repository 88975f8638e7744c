"""Exported graphs against the networks that they were made of."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.test_every_method import ANYWHERE, BACKBONES, CLASSES, lacks, localizer
from wsol import extras
from wsol.backbones.tiny import Tiny
from wsol.errors import InputError
from wsol.heads.box import BoxHead
from wsol.heads.gap import GapHead
from wsol.interop import export_onnx, export_torch
from wsol.interop.export import Answer, BoxAnswer, ExportGraph, answer, compare, num_maps, trace
from wsol.models.localizer import Localizer

OFTEN = ("cam", "gmp", "lse", "acol", "acol_chain", "spg", "adl", "c2am", "psol")
"""Methods that differ in what is exported; the others are tested under ``slow``."""


def graph(method: str = "cam", backbone: str = "tiny", **options) -> ExportGraph:
    network = localizer(method, backbone, 8)
    return ExportGraph(network, **{"top": None if network.gives_boxes else min(3, num_maps(network)), **options})


def asking(module) -> partial:
    return lambda images: answer(module(images))


def marked(names, often) -> list:
    return [pytest.param(name, marks=() if name in often else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("method", marked([name for name in ANYWHERE if not lacks(name, "tiny")], OFTEN))
def test_every_method_is_traced_for_any_number_of_images(method: str) -> None:
    original = graph(method)
    assert compare(original, asking(trace(original, 64).module()), 64) < 1e-6


@pytest.mark.parametrize("backbone", marked(BACKBONES, ("timm",)))
def test_every_backbone_is_traced(backbone: str) -> None:
    original = graph("acol", backbone)
    side = 98 if "dinov2" in backbone else 96
    assert compare(original, asking(trace(original, side).module()), side) < 1e-5


@pytest.mark.parametrize(("method", "backbone"), [("tscam", "deit_t"), ("scm", "deit_t"), ("sat", "deit_s_gated")])
def test_attention_is_traced(method: str, backbone: str) -> None:
    original = graph(method, backbone)
    assert compare(original, asking(trace(original, 64).module()), 64) < 1e-5


@pytest.mark.parametrize(
    ("settings", "more_maps"),
    [
        ({"erase_at_test": "predicted"}, False),
        ({"recipe": "ppp", "deltas": (0.6, 0.7)}, True),
        ({"recipe": "p"}, False),
    ],
)
def test_chains_and_what_erases(settings: dict, more_maps: bool) -> None:
    """Maps of asked classes need one erased batch for each class; a chain has as many as it has steps."""
    from wsol.heads.acol_chain import AcolChainHead

    settings = {"recipe": "pp", "deltas": () if settings.get("recipe") == "p" else (0.6,), **settings}
    model = Localizer(Tiny(), partial(AcolChainHead, width=8, **settings), num_classes=CLASSES)
    original = ExportGraph(model, 4)
    module = trace(original, 32).module()
    assert compare(original, asking(module), 32) < 1e-6
    logits, classes, maps = module(torch.rand(7, 3, 32, 32))
    assert (tuple(logits.shape), tuple(classes.shape), tuple(maps.shape)) == ((7, 5), (7, 4), (7, 4, 8, 8))


@pytest.mark.parametrize(("method", "backbone"), [("acol", "tiny"), ("spg", "tiny"), ("cam", "timm"), ("c2am", "tiny")])
def test_onnxruntime_gives_the_same(method: str, backbone: str, tmp_path: Path) -> None:
    original = graph(method, backbone)
    export_onnx.write(original, tmp_path / "a.onnx", 64, {"classes": ["ä", "b"]})
    run = export_onnx.runner(tmp_path / "a.onnx")
    assert compare(original, run, 64) < 1e-4
    assert run(torch.rand(5, 3, 64, 64)).maps.shape[:2] == (5, original.top)
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    assert [entry.name for entry in (*session.get_inputs(), *session.get_outputs())] == [
        "images",
        "logits",
        "classes",
        "maps",
    ]
    assert all(isinstance(entry.shape[0], str) for entry in (*session.get_inputs(), *session.get_outputs()))
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == ["ä", "b"]


def test_files_of_torch_export_give_the_same(tmp_path: Path) -> None:
    original = graph("acol")
    export_torch.write(original, tmp_path / "a.pt2", 64, {"classes": ["ä", "b"]})
    assert compare(original, export_torch.runner(tmp_path / "a.pt2"), 64) == 0
    extra = {"classes": ""}
    torch.export.load(tmp_path / "a.pt2", extra_files=extra)
    assert json.loads(extra["classes"]) == ["ä", "b"]


@pytest.mark.parametrize("classify", [False, True])
def test_boxes_in_both_formats(classify: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = ExportGraph(Localizer(Tiny(), partial(BoxHead, width=8, classify=classify), num_classes=4), None)
    export_onnx.write(original, tmp_path / "a.onnx", 64, {})
    export_torch.write(original, tmp_path / "a.pt2", 64, {})
    for run in (export_onnx.runner(tmp_path / "a.onnx"), export_torch.runner(tmp_path / "a.pt2")):
        assert compare(original, run, 64) < 1e-5
        found = run(torch.rand(5, 3, 64, 64))
        assert isinstance(found, BoxAnswer)
        assert (found.logits.shape, found.boxes.shape) == ((5, 4 if classify else 0), (5, 4))

    def wrong(images: torch.Tensor) -> BoxAnswer:
        logits, boxes = original(images)
        return BoxAnswer(logits, boxes + 0.01)

    with pytest.raises(InputError, match="the exported graph differs from the network by"):
        compare(original, wrong, 64)
    with pytest.raises(InputError, match="top=2: a head without maps was asked for maps"):
        ExportGraph(original.localizer, 2)


@torch.no_grad()
def test_normalisation_is_part_of_the_graph_or_not() -> None:
    model = Localizer(Tiny(), partial(GapHead), num_classes=4)
    images = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (model.preprocessing.mean, model.preprocessing.std))
    inside, outside = ExportGraph(model, 4), ExportGraph(model, 4, normalise=False)
    for one, other in zip(inside(images), outside((images - mean) / std), strict=True):
        torch.testing.assert_close(one, other)
    logits, classes, maps = inside(images)
    torch.testing.assert_close(logits, model((images - mean) / std).logits)
    best = logits.sort(descending=True, stable=True)
    torch.testing.assert_close(classes, best.indices)
    bias = model.head.get_submodule("classifier").bias[classes]
    torch.testing.assert_close(maps.mean((2, 3)) + bias, best.values)


@pytest.mark.parametrize("wrong", ["logits", "classes", "maps", "shape", "nan", "range"])
def test_a_graph_that_differs_is_told(wrong: str) -> None:
    """Every part of an answer can be what is wrong, and only with the third image."""
    original = graph()

    def run(images: torch.Tensor) -> Answer:
        with torch.no_grad():
            logits, classes, maps = (part.clone() for part in original(images))
        if wrong == "logits":
            logits[2:] += 0.01
        elif wrong == "nan":
            logits[2:] = float("nan")
        elif wrong == "classes":
            classes[2:] = classes[2:].flip(1)
        elif wrong == "range":
            classes[2:] = CLASSES
        elif wrong == "maps":
            maps[2:, 1] *= 1.01
        else:
            maps = maps[..., :2]
        return Answer(logits, classes, maps)

    with pytest.raises(InputError, match=r"differs from the network|impossible classes"):
        compare(original, run, 64)


@pytest.mark.parametrize("top", [0, 6])
def test_as_many_maps_as_there_are_classes(top: int) -> None:
    with pytest.raises(InputError, match=f"top: expected 1 to 5, the number of classes, got {top}"):
        graph(top=top)
    with pytest.raises(InputError, match=f"expected 1 to 1, the number of maps of a network that .* got {top}"):
        graph("c2am", top=top)


def test_what_cannot_be_traced_is_one_message() -> None:
    original = graph()

    def stubborn(images: torch.Tensor, labels: object = None) -> object:
        raise ValueError("no\nway")

    original.localizer.forward = stubborn
    with pytest.raises(InputError, match=r"cannot follow Tiny with GapHead: no; format=safetensors"):
        trace(original, 32)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_is_installed", lambda name: name != "onnxscript")
    with pytest.raises(InputError, match=r"format=onnx needs onnxscript: pip install \"wsol\[export\]\""):
        export_onnx.require()
