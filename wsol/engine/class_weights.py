"""Weights of the classes in the training loss: ``class_weights``.

``auto`` weights a class by the inverse of its number of training images (King and Zeng 2001, "Logistic Regression in
Rare Events Data")::

    w_c = N / (K n_c)        N images of K classes, n_c of them of class c

The mean weight of all training images is then 1, so learning rates need not change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsol.data.source import Split
from wsol.errors import InputError, unknown


def class_weights(setting: Any, split: Split, classes: Sequence[str]) -> Tensor | None:
    """Return the weights of the classes in the loss.

    Args:
        setting: None for none, ``auto``, or a mapping from names of classes to numbers above 0; other classes have 1.
        split: the training images of all processes.
        classes: names of the K classes.

    Returns:
        float32 (K,), or None. A class without training images has the weight 1.

    Raises:
        InputError: another setting, an unknown class or a number that is not above 0.
    """
    if setting is None:
        return None
    weights = np.ones(len(classes))
    if setting == "auto":
        counts = np.bincount(split.labels, minlength=len(classes))
        there = counts > 0
        weights[there] = len(split) / (there.sum() * counts[there])
    elif isinstance(setting, Mapping):
        names = list(classes)
        for name, value in setting.items():
            if str(name) not in names:
                raise unknown("class in class_weights", str(name), names)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise InputError(f"class_weights: expected a number above 0 for {name!r}, got {value!r}")
            weights[names.index(str(name))] = value
    else:
        raise InputError(
            f"class_weights={setting}: expected null, auto, or weights by name such as {{{classes[0]}: 2.0}}"
        )
    return torch.tensor(weights, dtype=torch.float32)
