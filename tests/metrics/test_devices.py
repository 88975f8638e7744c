"""Metrics on a device, which is faked where there is none: what is read from it, and how often."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.metrics.cases import LABELS, LOGITS
from wsol.functional import metric_inputs, ranks
from wsol.metrics import LocalizationError, MaxBoxAcc, PxAP, TopKError


@pytest.fixture
def moves(monkeypatch) -> Iterator[list[int]]:
    """Stands in for the copy from the device: zeros of the tensors' shapes. Any other read of a fake tensor raises."""
    found: list[int] = []

    def to_host(tensors):
        found.append(sum(tensor.device.type == "cuda" for tensor in tensors))
        kept = {torch.uint8: np.uint8, torch.int64: np.int64, torch.int32: np.int32}
        return [box(tensor.shape, kept.get(tensor.dtype, np.float32)) for tensor in tensors]

    def box(shape, dtype):
        return np.array([0, 0, 4, 4], dtype) if tuple(shape) == (4,) else np.zeros(tuple(shape), dtype)

    for module in (metric_inputs, ranks):
        monkeypatch.setattr(module, "to_host", to_host)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield found


@pytest.mark.parametrize("labels", ["list", "array", "cpu", "cuda"])
@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_localization_reads_the_device_once_a_batch(moves: list[int], labels: str, where: str) -> None:
    metric = LocalizationError("bas2022", topk=[1]).to(where)
    given = {"list": [0, 1], "array": np.array([0, 1])}.get(labels)
    for _ in range(2):
        metric.update(
            torch.zeros(2, 8, 8, device="cuda"),
            [torch.zeros(4, device="cuda"), torch.zeros(4, device="cuda")],
            sizes=[(8, 8), (8, 8)],
            logits=torch.zeros(2, 3, device="cuda"),
            labels=torch.zeros(2, dtype=torch.int64, device=labels) if given is None else given,
            index=torch.zeros(2, dtype=torch.int64, device="cuda"),
        )
    assert len(moves) == 2
    assert all(part.device.type == where for part in metric.index)


def test_lists_of_maps_are_read_once(moves: list[int]) -> None:
    MaxBoxAcc().to("cuda").update(
        [torch.zeros(8, 8, device="cuda"), torch.zeros(5, 6, device="cuda")], [[0, 0, 4, 4]] * 2
    )
    assert moves == [2]


@pytest.fixture
def pixels() -> PxAP:
    """Made before tensors are faked: its state is a tensor, which is copied."""
    return PxAP()


def test_classes_and_pixels_read_the_device_once_a_batch(pixels: PxAP, moves: list[int]) -> None:
    TopKError(topk=[1]).to("cuda").update(torch.zeros(2, 3, device="cuda"), [0, 1])
    masks = torch.zeros(2, 4, 4, device="cuda", dtype=torch.uint8)
    pixels.update(torch.zeros(2, 4, 4, device="cuda"), masks)
    assert moves == [1, 2]


def test_tensors_of_one_device_are_joined_for_one_copy() -> None:
    copies: list[int] = []

    class OnDevice(torch.Tensor):
        """A tensor that says it is on another device, as do those that are made of it."""

        device = torch.device("cuda")

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            if func is torch.Tensor.cpu:
                copies.append(args[0].numel())
                return args[0].as_subclass(torch.Tensor)
            return super().__torch_function__(func, types, args, kwargs)

    parts = [torch.arange(6.0).reshape(2, 3), torch.full((1,), 9.0), torch.zeros(0, 4), torch.tensor([1, 2])]
    found = metric_inputs.to_host([part.as_subclass(OnDevice) for part in parts])
    assert copies == [7, 2]
    for array, part in zip(found, parts, strict=True):
        assert np.array_equal(array, part.numpy())
        assert array.shape == tuple(part.shape)


def test_narrow_floats_become_float32() -> None:
    (array,) = metric_inputs.to_host([torch.tensor([1.5], dtype=torch.bfloat16, requires_grad=True)])
    assert array.dtype == np.float32
    assert array.tolist() == [1.5]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_results_are_on_the_metrics_device() -> None:
    metric = TopKError().cuda()
    metric.update(torch.from_numpy(LOGITS).cuda(), LABELS.tolist())
    alone = TopKError()
    alone.update(LOGITS, LABELS)
    for name, error in metric.compute().items():
        assert error.device.type == "cuda"
        assert error.item() == alone.compute()[name].item()
