r"""The guided ReLU: a mode in which a ReLU passes back positive gradients only.

Springenberg et al. 2015, "Striving for Simplicity: The All Convolutional Net", section 3.4: backwards through
``f = ReLU(x)``::

    R_x = [x > 0] [R_f > 0] R_f
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

RELUS = frozenset({F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})


class GuidedReLU(TorchFunctionMode):
    """Within the block, negative gradients at the output of every ReLU of a forward pass become 0.

    This also works for reused modules and for functions (in GoogLeNet and Inception), which hooks on modules would
    miss. The backward pass may run after the block. ``count`` is the number of ReLUs that ran.

    Example:
        >>> x = torch.tensor([1.0, 2.0, -3.0], requires_grad=True)
        >>> with GuidedReLU() as guided:
        ...     y = F.relu(x.clone())
        >>> torch.autograd.grad((y * torch.tensor([-1.0, 4.0, 5.0])).sum(), x)[0].tolist(), guided.count
        ([0.0, 4.0, 0.0], 1)
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a function of torch, and register the gradient's hook on the output of a ReLU."""
        out = func(*args, **(kwargs or {}))
        if func in RELUS:
            self.count += 1
            if out.requires_grad:
                out.register_hook(lambda grad: grad.clamp(min=0))
        return out
