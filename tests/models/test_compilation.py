"""torch.compile: one graph for every method, the same numbers, the same names."""

from __future__ import annotations

import copy
from collections.abc import Callable
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
IMAGES, LABELS = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3])


def make(method: str) -> Localizer:
    torch.manual_seed(0)
    config = load_choice("method", method)
    edits = {point: build.instantiate(node, "edits") for point, node in (config.get("edits") or {}).items()}
    backbone = backbone_of_head(config.head)
    return Localizer(backbone, build.instantiate(config.head, "head"), 5, edits=edits)


def compiled(network: Localizer) -> Callable:
    """The network as one graph: a break raises."""
    torch._dynamo.reset()
    return torch.compile(network, fullgraph=True, backend="eager")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_evaluates_as_one_graph(method: str) -> None:
    network = make(method).eval()
    found, plain = compiled(network)(IMAGES), network(IMAGES)
    assert torch.equal(found.logits, plain.logits)
    assert found.logits.shape == (len(IMAGES), 5 if network.classifies else 0)
    if network.gives_boxes:
        assert torch.equal(network.boxes(found), network.boxes(plain))
        return
    classes = torch.tensor([[0, 4]] * len(IMAGES))
    assert torch.equal(network.maps(found, classes), network.maps(plain, classes))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_as_one_graph(method: str) -> None:
    """The same scores, gradients and statistics as without compiling."""
    network = make(method).train()
    twin = copy.deepcopy(network)
    pseudo = torch.tensor([[0.1, 0.2, 0.7, 0.9]]).expand(len(IMAGES), 4) if network.head.pseudo else None
    steps = []
    for model, call in ((network, network), (twin, compiled(twin))):
        torch.manual_seed(1)
        output = call(IMAGES, labels=LABELS)
        sum(model.loss(output, torch.eye(5)[LABELS], pseudo=pseudo).values()).backward()
        gradients = {f"gradient of {name}": parameter.grad for name, parameter in model.named_parameters()}
        steps.append({"logits": output.logits, **gradients, **model.state_dict()})
    for name, value in steps[0].items():
        assert (value is None and steps[1][name] is None) or torch.equal(value, steps[1][name]), name


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
