"""The names of a network's tensors in another program, and their names here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wsol.errors import InputError

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
    """The names here of their modules; all other modules belong to the backbone and have the same names."""
    shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    """Shapes of tensors that distinguish it from networks with the same names; None is any size."""
    unread: tuple[str, ...] = ()
    """Name prefixes of tensors that their training keeps, but no score or map depends on."""
    asks: Mapping[str, str] = field(default_factory=dict)
    """Options of the head that change scores or maps and that no tensor tells, and what can be said."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Entries that say yes or no beside the tensors of their file, and our buffer that is above 0 for yes."""
    lacks: tuple[str, ...] = ()
    """Our tensors that they do not save and no score or map depends on."""
    classifies: bool = True
    """Whether it has a classifier."""
    fixed_stride: bool = False
    """Whether the backbone here has no other output stride, and takes none."""

    def fits(self, state: Mapping[str, Tensor]) -> bool:
        """Return whether a state dict is of this network."""
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

    def read_beside(self, content: Any, source: str) -> dict[str, Tensor]:
        """Return what the file of a network says beside its tensors, as our buffers: 1 for yes, -1 for no.

        Args:
            content: all of the file.
            source: its origin, for messages.

        Raises:
            InputError: the file lacks an entry, or it is neither yes nor no.
        """
        found = {}
        for entry, name in self.beside.items():
            value = content.get(entry) if isinstance(content, Mapping) else None
            if isinstance(value, Tensor) and value.numel() == 1:
                value = bool(value)
            if not isinstance(value, bool):
                raise InputError(
                    f"{source}: {self.name}, whose maps depend on the entry {entry} (true or false) that the authors' "
                    "program saves beside the weights, and which this file lacks; convert the file that it saved"
                )
            found[name] = torch.tensor(1.0 if value else -1.0)
        return found


def _agree(found: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(found) == len(expected) and all(b in (a, None) for a, b in zip(found, expected, strict=True))
