"""Every exported metric with images for it, for the tests of what all of them promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from wsol.functional.error_kinds import KINDS
from wsol.metrics import ErrorSplit, LocalizationError, MaxBoxAcc, MaxBoxAccV2, PxAP, TopKError

COUNT = 12
SIZE = (24, 18)

_rng = np.random.default_rng(0)
MAPS = np.stack([cv2.GaussianBlur(_rng.standard_normal((9, 12)), (0, 0), 1.5) for _ in range(COUNT)]).astype(np.float32)
LOW = _rng.uniform(0, 0.4, (COUNT, 2)) * SIZE
BOXES = np.concatenate([LOW, LOW + _rng.uniform(0.3, 0.6, (COUNT, 2)) * SIZE], axis=1)[:, None]
LOGITS, LABELS = _rng.standard_normal((COUNT, 6)).astype(np.float32), _rng.integers(0, 6, COUNT)
SCORES, MASKS = _rng.random((COUNT, 4, 5)), _rng.choice(np.array([0, 1, 255], np.uint8), (COUNT, 4, 5))
MASKS[:, 0, 0] = 1
WORDS = [KINDS[i] for i in _rng.integers(0, len(KINDS), COUNT)]


class Case(NamedTuple):
    """A metric and what its update takes of some images."""

    make: Callable[..., Metric]
    arguments: Callable[[Sequence[int]], tuple[tuple, dict[str, Any]]]


def _localization(some: Sequence[int]) -> tuple[tuple, dict[str, Any]]:
    at = list(some)
    positional = (torch.from_numpy(MAPS[at]), [torch.from_numpy(BOXES[i]) for i in at], [SIZE] * len(at))
    return positional, {"logits": torch.from_numpy(LOGITS[at]), "labels": LABELS[at].tolist()}


def _classes(some: Sequence[int]) -> tuple[tuple, dict[str, Any]]:
    return (torch.from_numpy(LOGITS[list(some)]), torch.from_numpy(LABELS[list(some)])), {}


def _pixels(some: Sequence[int]) -> tuple[tuple, dict[str, Any]]:
    return (torch.from_numpy(SCORES[list(some)]), torch.from_numpy(MASKS[list(some)])), {}


def _kinds(some: Sequence[int]) -> tuple[tuple, dict[str, Any]]:
    return ([WORDS[i] for i in some],), {}


CASES = {
    "LocalizationError": Case(LocalizationError, _localization),
    "LocalizationError, mean over classes": Case(lambda **kw: LocalizationError("bas2022", **kw), _localization),
    "LocalizationError, ranked": Case(lambda **kw: LocalizationError("cam2016-code", **kw), _localization),
    "MaxBoxAcc": Case(MaxBoxAcc, _localization),
    "MaxBoxAccV2": Case(MaxBoxAccV2, _localization),
    "PxAP": Case(PxAP, _pixels),
    "TopKError": Case(TopKError, _classes),
    "ErrorSplit": Case(ErrorSplit, _kinds),
}


def update(metric: Metric, case: Case, some: Sequence[int], keyed: bool, call: str = "update") -> Any:
    """Give a metric some images, by ``update`` or ``forward``."""
    positional, named = case.arguments(some)
    return getattr(metric, call)(*positional, **named, **({"index": list(some)} if keyed else {}))


def values(result: Tensor | dict[str, Tensor]) -> dict[str, float]:
    """The numbers of a result, comparable by ``==``."""
    assert all(
        isinstance(v, Tensor) and v.ndim == 0 for v in (result.values() if isinstance(result, dict) else [result])
    )
    return {k: v.item() for k, v in result.items()} if isinstance(result, dict) else {"value": result.item()}


def whole(case: Case, some: Sequence[int] = range(COUNT)) -> dict[str, float]:
    """The result of one update with all images."""
    metric = case.make()
    update(metric, case, some, keyed=False)
    return values(metric.compute())
