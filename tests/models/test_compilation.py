"""torch.compile: one graph for every method, the same numbers, the same names."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.choices import backbone_of_head, choices, load_choice
from tests.conftest import SMALL_RUN
from wsol.backbones.tiny import Tiny
from wsol.cli import main
from wsol.config import build
from wsol.errors import InputError
from wsol.models.compilation import compile_network
from wsol.models.localizer import Localizer

METHODS = [name for name in choices("method") if "/" not in name]


def make(method: str) -> Localizer:
    torch.manual_seed(0)
    config = load_choice("method", method)
    edits = {point: build.instantiate(node, "edits") for point, node in (config.get("edits") or {}).items()}
    backbone = backbone_of_head(config.head)
    return Localizer(backbone, build.instantiate(config.head, "head"), 5, edits=edits)


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_one_graph(method: str, is_training: bool) -> None:
    torch._dynamo.reset()
    network = make(method).train(is_training)
    images, labels = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 3])
    # A break raises; a head that runs stages again makes a copy of them in the forward pass, which breaks the graph.
    whole = torch.compile(network, fullgraph=network.head.reruns is None, backend="eager")
    found = whole(images, labels=labels)
    assert found.logits.shape == (4, 5 if network.classifies else 0)
    if not is_training:
        assert torch.equal(found.logits, network(images, labels=labels).logits)
        if network.gives_boxes:
            assert torch.equal(network.boxes(found), network.boxes(network(images, labels=labels)))
            return
        classes = torch.tensor([[0, 4], [1, 2], [3, 3], [2, 0]])
        assert torch.equal(network.maps(found, classes), network.maps(network(images, labels=labels), classes))


def test_a_compiled_run_is_the_same_run_under_the_same_names(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()
    calls = []
    plain = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: (calls.append(self), plain(self, backend="eager"))[0])
    words = [*SMALL_RUN, f"data_dir={data_dir}", "trainer.max_epochs=1", "trainer.precision=32-true"]
    for name, more in (("plain", []), ("compiled", ["compile=true"])):
        assert main(["train", *words, *more, f"run_dir={tmp_path / name}"]) == 0
    states = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("plain", "compiled")
    ]
    assert len(calls) == 1
    assert list(states[0]) == list(states[1])
    assert all(torch.allclose(value, states[1][key], atol=1e-6) for key, value in states[0].items())
    evaluate = ["eval", f"run={tmp_path / 'compiled'}", "trainer.accelerator=cpu", "compile=true"]
    assert main(evaluate) == 0
    assert len(calls) == 2
    assert main([*evaluate, "explainer=gradcam"]) != 0


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match="C\\+\\+ compiler"):
        compile_network(Localizer(Tiny(), partial(build.instantiate(load_choice("method", "cam").head, "head")), 3))
