"""The training step of every method on a GPU, which is faked: it reads nothing from the device and mixes no devices.

A read (``.item()``, ``bool(tensor)``, a copy to the host) raises in fake tensors, for their values are unknown; on a
GPU the step would wait there for all work that is queued.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from tests.choices import backbone_of_head, choices, load_choice
from wsol.config import build
from wsol.engine.module import LocalizerModule
from wsol.models.localizer import Localizer
from wsol.types import Batch

CLASSES = 5
METHODS = [name for name in choices("method") if "/" not in name]


def make(method: str) -> LocalizerModule:
    """A module of a method on a small CNN, or on a small ViT if it reads attention."""
    config = load_choice("method", method)
    edits = {point: build.instantiate(node, "edits") for point, node in (config.get("edits") or {}).items()}
    backbone = backbone_of_head(config.head)
    network = Localizer(backbone, build.instantiate(config.head, "head"), CLASSES, edits=edits)
    transforms = [build.instantiate(node, "batch_transforms") for node in config.batch_transforms]
    return LocalizerModule(network, optimizer=partial(torch.optim.SGD, lr=0.1), batch_transforms=transforms)


def put_on_fake_gpu(module: LocalizerModule) -> None:
    """Exchange parameters and buffers for fake ones; `.to` cannot do so."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = torch.nn.Parameter(fake(value))
        part._buffers.update({name: fake(value) for name, value in part._buffers.items() if value is not None})


class FakeGpu(FakeTensorMode):
    """Tensors without values, of which those on the host may be read: draws of box corners and the like."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default and args[0].device.type == "cpu":
            return {torch.bool: False, torch.int64: 1}.get(args[0].dtype, 0.5)
        return super().__torch_dispatch__(func, types, args, kwargs or {})


def fake(value: torch.Tensor) -> torch.Tensor:
    return torch.empty(value.shape, dtype=value.dtype, device="cuda")


def batch(device: str, pseudo: str | None = None) -> Batch:
    """Positions, sizes and what was skipped stay on the host."""
    targets = {"boxes": torch.full((4, 4), 32.0, device=device), None: None}[pseudo]
    images = torch.zeros(4, 3, 64, 64, dtype=torch.uint8, device=device)
    labels = torch.zeros(4, dtype=torch.int64, device=device)
    return Batch(images, labels, torch.arange(4), torch.full((4, 2), 64), torch.empty(0, dtype=torch.int64), targets)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a step logs; Lightning would want a trainer."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(LocalizerModule, "log", lambda self, name, value, **how: found.update({name: value}))
    return found


@pytest.mark.parametrize("method", METHODS)
def test_a_step_stays_on_the_device(method: str, logged: dict[str, Any]) -> None:
    module = make(method).train()
    with FakeGpu():
        put_on_fake_gpu(module)
        assert {parameter.device.type for parameter in module.parameters()} == {"cuda"}
        loss = module.training_step(batch("cuda", module.localizer.head.pseudo), 0)
        assert {value.device.type for value in (loss, *logged.values())} == {"cuda"}
        assert loss.requires_grad
        assert "train/loss" in logged


@pytest.mark.parametrize("fault", [lambda loss: loss.item(), lambda loss: bool(loss > 0)])
def test_a_read_would_be_seen(fault, logged: dict[str, Any]) -> None:
    module = make("cam").train()
    with FakeGpu():
        put_on_fake_gpu(module)
        loss = module.training_step(batch("cuda"), 0)
        with pytest.raises(DataDependentOutputException):
            fault(loss)


def test_a_mix_of_devices_would_be_seen(logged: dict[str, Any]) -> None:
    module = make("cam").train()
    with FakeGpu():
        put_on_fake_gpu(module)
        module.pixel_mean = torch.zeros(3, 64, 64)
        with pytest.raises(RuntimeError, match="devices"):
            module.training_step(batch("cuda"), 0)
