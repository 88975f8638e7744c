r"""Attention-based dropout: hide the most discriminative cells, or weight all cells by how discriminative they are.

Choe and Shim 2019, "Attention-based Dropout Layer for Weakly Supervised Object Localization", section 3. With the
features f (C, h, w) of one image::

    attention        A(x, y) = 1/C sum_k f_k(x, y)
    drop mask        D(x, y) = 0 where A(x, y) >= gamma max A, else 1
    importance map   I(x, y) = sigmoid(A(x, y))
    f' = f * D  with probability drop_rate, else  f * I        training
    f' = f                                                     evaluation

In the paper's figures and code, the choice is made once per step and place, for the whole batch. Gradients flow through
the importance map, but not through the drop mask.

Places, from the authors' code and Choe et al. 2020: VGG-16 after ``pool3``, ``conv4_3`` (before pool4) and ``conv5_3``,
gamma 0.8; ResNet-50 after ``layer3.0``, ``layer4.0`` and ``layer4.2``, gamma 0.9.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsol.errors import InputError


class ADL(nn.Module):
    """The attention-based dropout layer; it has no parameters.

    Args:
        drop_rate: probability of using the drop mask, in [0, 1]; otherwise the importance map is used.
        gamma: fraction of the maximum attention from which a cell is dropped, in [0, 1].
        per_image: choose for every image; False, as in the released code, chooses once for the batch.

    Raises:
        InputError: a number outside [0, 1].

    Example:
        >>> features = torch.ones(1, 8, 2, 2)
        >>> features[..., 0, 0] = 3.0
        >>> ADL(drop_rate=1.0, gamma=0.9)(features)[0, 0].tolist()
        [[0.0, 1.0], [1.0, 1.0]]
        >>> torch.equal(ADL().eval()(features), features)
        True
    """

    def __init__(self, drop_rate: float = 0.75, gamma: float = 0.9, per_image: bool = False) -> None:
        super().__init__()
        for name, value in {"drop_rate": drop_rate, "gamma": gamma}.items():
            if not 0 <= value <= 1:
                raise InputError(f"{name} of ADL: expected a number in [0, 1], got {value}")
        self.drop_rate, self.gamma, self.per_image = drop_rate, gamma, per_image

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (N, C, h, w), in training with cells dropped or weighted; uses torch's generator."""
        if not self.training:
            return x
        # In half precision, cells close to the maximum would be rounded to it.
        attention = x.float().mean(1, keepdim=True)
        kept = (attention < self.gamma * attention.amax((2, 3), keepdim=True)).float()
        draws = torch.rand(len(x) if self.per_image else 1, 1, 1, 1, device=x.device)
        return x * torch.where(draws < self.drop_rate, kept, attention.sigmoid()).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the options, for printing."""
        return f"drop_rate={self.drop_rate}, gamma={self.gamma}, per_image={self.per_image}"
