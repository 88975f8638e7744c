"""How another program names the tensors of a network, and what they are called here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

CLASSIFIER = "classifier.weight"
"""End of the name of the tensor that has a row for each class."""


@dataclass(frozen=True)
class Peer:
    """A network of another program."""

    name: str
    marks: tuple[str, ...]
    """Names of tensors that together only this network has."""
    absent: tuple[str, ...]
    """Names that it does not have, but other networks with the same marks."""
    strides: tuple[int, ...]
    """The output strides it may have; several where the tensors are the same at all of them."""
    words: tuple[str, ...]
    """The config of the same network, but for the output stride and the number of classes."""
    modules: Mapping[str, str]
    """Their modules by name, and what they are called here; others belong to the backbone and have the same names."""
    shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    """Shapes of tensors that tell it from networks with the same names; None is any size."""
    unread: tuple[str, ...] = ()
    """Name prefixes of tensors that their training keeps, but no score or map depends on."""
    asks: Mapping[str, str] = field(default_factory=dict)
    """Options of the head that change scores or maps and that no tensor tells, and what can be said."""

    def fits(self, state: Mapping[str, Tensor]) -> bool:
        """Whether a state dict is of this network."""
        return (
            state.keys() >= set(self.marks)
            and state.keys().isdisjoint(self.absent)
            and all(name in state and _agree(state[name].shape, shape) for name, shape in self.shapes.items())
        )

    def translate(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors under the names of `Localizer`; 1x1 classifiers (K, C, 1, 1) as (K, C).

        Example:
            >>> import torch
            >>> from wsol.interop.peers import PEERS
            >>> tensors = {"SPG_A2.3.bn1.bias": torch.zeros(256), "SPG_A4.weight": torch.zeros(5, 2048, 1, 1)}
            >>> spg = next(peer for peer in PEERS if peer.name == "SPG of wsolevaluation, ResNet-50")
            >>> {name: tuple(value.shape) for name, value in spg.translate(tensors).items()}
            {'backbone.layer3.4.bn1.bias': (256,), 'head.branch.classifier.weight': (5, 2048)}
        """
        read = {name: value for name, value in state.items() if not name.startswith(self.unread)}
        renamed = {self._renamed(name): value for name, value in read.items()}
        return {
            name: value.flatten(1) if name.endswith(CLASSIFIER) and value.shape[2:] == (1, 1) else value
            for name, value in renamed.items()
        }

    def _renamed(self, name: str) -> str:
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            if (module := ".".join(parts[:length])) in self.modules:
                return ".".join([self.modules[module], *parts[length:]])
        return f"backbone.{name}"


def _agree(found: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(found) == len(expected) and all(b in (a, None) for a, b in zip(found, expected, strict=True))
