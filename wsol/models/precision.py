"""The precision of reported results: float32 without TensorFloat-32, or lower on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from wsol.errors import unknown

AUTOCAST = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Precisions of an evaluation: float32, or autocast to a lower precision."""


def check_precision(precision: str) -> str:
    """Check and return ``precision``.

    Raises:
        InputError: it is not one of `AUTOCAST`.
    """
    if precision not in AUTOCAST:
        raise unknown("eval_precision", precision, (*AUTOCAST, "auto"))
    return precision


@contextmanager
def evaluation_precision(device_type: str, precision: str = "32-true") -> Iterator[None]:
    """Compute in one of `AUTOCAST` inside the block, even within a training autocast, without TF32.

    Args:
        device_type: such as ``cpu`` or ``cuda``.
        precision: one of `AUTOCAST`.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16), evaluation_precision("cpu"):
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.float32
    """
    dtype = AUTOCAST[check_precision(precision)]
    with without_tf32(), torch.autocast(device_type, dtype=dtype, enabled=dtype is not None):
        yield


@contextmanager
def without_tf32() -> Iterator[None]:
    """Multiply float32 in float32 inside the block; by default cuDNN convolves with 10 bits of mantissa."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    cpu = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = cuda.allow_tf32, cudnn.allow_tf32, cpu.fp32_precision
    is_medium = before == (True, before[1], "bf16")  # set_float32_matmul_precision("medium"), more than TF32
    try:
        cuda.allow_tf32, cudnn.allow_tf32, cpu.fp32_precision = False, False, "ieee"
        yield
    finally:
        cuda.allow_tf32, cudnn.allow_tf32, cpu.fp32_precision = before
        if is_medium:
            torch.set_float32_matmul_precision("medium")
