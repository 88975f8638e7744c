"""The appearance of the creatures of `wsol.data.datasets.creatures`, and the drawing of one image.

The dataset models weakly supervised localization: the head nearly always shows the class, body and tail show it most
of the time, so a classifier may use only the head, while the box spans the whole creature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from wsol.data.datasets.creature_brushes import PATTERNS, Frame, ellipse, noise, paint, pattern, rgb, two_tone
from wsol.errors import InputError, unknown


@dataclass(frozen=True)
class Looks:
    """The parameters of the drawing; probabilities are per image."""

    size: int = 64
    """Side of the square images, pixels."""
    num_classes: int = 8
    scale: tuple[float, float] = (0.6, 1.0)
    """Smallest and largest length of a creature, as a fraction of the image's side."""
    head_radius: float = 0.3
    """In units of half the creature's length."""
    bend: float = 0.18
    """Amplitude of the spine's wave, in units of half the length."""
    head_shown: float = 0.97
    """Probability that the head has the coat of its class instead of plain grey."""
    body_true: float = 0.9
    """Probability that the body has the coat of its class instead of a random class."""
    tail_true: float = 0.9
    """The same for the tail."""
    hue_jitter: float = 0.05
    """Standard deviation of the hues of body and tail; 1 is a full turn of the colour wheel."""
    head_jitter: float = 0.015
    """The same for the head."""
    distractors: int = 3
    """Largest number of blobs around the creature."""
    distractor_shown: float = 0.75
    """Probability of each of them."""
    distractor_coat: float = 0.5
    """Probability that a blob has the body or tail coat of another class instead of any coat."""
    backdrop: float = 0.25
    """Strength of the background's pattern."""
    grain: float = 0.04
    """Standard deviation of the pixel noise."""
    light: tuple[float, float] = (0.75, 1.2)
    """Smallest and largest brightness."""

    def __post_init__(self) -> None:
        if self.size < 16 or self.num_classes < 2:
            raise InputError(f"creatures need size >= 16 and num_classes >= 2, got {self.size} and {self.num_classes}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.light[0] <= self.light[1]:
            raise InputError(f"scale must rise within 0..1 and light from above 0, got {self.scale} and {self.light}")
        for knob in ("head_shown", "body_true", "tail_true", "distractor_shown", "distractor_coat"):
            if not 0 <= getattr(self, knob) <= 1:
                raise InputError(f"expected {knob} to be a probability, got {getattr(self, knob)}")

    @classmethod
    def of(cls, **knobs: Any) -> Looks:
        """Build from a config, whose values may have similar types, such as an int for a float or a list for a tuple.

        Raises:
            InputError: if a parameter is unknown or has the wrong type.

        Example:
            >>> Looks.of(scale=[0.5, 1], grain=0).scale
            (0.5, 1.0)
        """
        defaults = {field.name: field.default for field in fields(cls)}
        for name in set(knobs) - set(defaults):
            raise unknown("parameter", name, defaults)
        try:
            return cls(**{name: _alike(value, defaults[name]) for name, value in knobs.items()})
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"creatures: {error}; the parameters are {defaults}") from error


class Coat(NamedTuple):
    """A pattern in two hues (from 0 to 1 around the colour wheel)."""

    kind: int
    hue: float
    second_hue: float


class Species(NamedTuple):
    """What the creatures of a class have in common."""

    head: Coat
    body: Coat
    tail: Coat
    girth: float
    """Half-width of the body, in units of half the length."""


class Drawing(NamedTuple):
    """One image with its masks."""

    image: np.ndarray
    """uint8 (S, S, 3) RGB."""
    mask: np.ndarray
    """bool (S, S), the creature."""
    head: np.ndarray
    """bool (S, S), its head."""


def species(num_classes: int) -> list[Species]:
    """Return the coats of all classes; they depend only on the number of classes."""
    rng = np.random.default_rng(num_classes)
    evenly = np.arange(num_classes) / num_classes

    def kinds() -> np.ndarray:
        """Return a pattern for each class, each pattern about equally often."""
        return rng.permutation(np.arange(num_classes) % len(PATTERNS))

    def coats() -> list[Coat]:
        """Return a coat for each class, with hues spread evenly over the circle."""
        hues = rng.permutation(evenly)
        return [Coat(int(k), float(h), float(h) + 0.08) for k, h in zip(kinds(), hues, strict=True)]

    other = evenly + 0.33 + 0.2 * rng.random(num_classes)
    heads = [Coat(int(k), float(a), float(b)) for k, a, b in zip(kinds(), evenly, other, strict=True)]
    girths = rng.permutation(np.linspace(0.28, 0.5, num_classes)).tolist()
    return [Species(*parts) for parts in zip(heads, coats(), coats(), girths, strict=True)]


def draw(rng: np.random.Generator, label: int, kinds: Sequence[Species], looks: Looks) -> Drawing:
    """Draw one image: background, distractors, creature, light.

    Args:
        rng: source of all randomness.
        label: class of the creature.
        kinds: from `species`.
        looks: the parameters.
    """
    canvas = background(rng, looks)
    for _ in range(looks.distractors):
        if rng.random() < looks.distractor_shown:
            distractor(canvas, rng, label, kinds, looks)
    mask, head = creature(canvas, rng, label, kinds, looks)
    return Drawing(develop(canvas, rng, looks), mask, head)


def background(rng: np.random.Generator, looks: Looks) -> np.ndarray:
    """Coloured noise, coarse and fine, under a faint pattern: float32 (3, S, S)."""
    size = looks.size
    canvas = 0.25 + 0.5 * noise(rng, size, 3) + 0.35 * (noise(rng, size, 10) - 0.5)
    frame = Frame((size / 2, size / 2), rng.uniform(0, 2 * np.pi), size)
    u, v = frame.coordinates((slice(0, size), slice(0, size)))
    lines = pattern(int(rng.integers(len(PATTERNS))), u, v, rng.uniform(15, 45), _phase(rng))
    return canvas + np.float32(looks.backdrop) * (lines - 0.5) * rng.random((3, 1, 1), dtype=np.float32)


def distractor(
    canvas: np.ndarray, rng: np.random.Generator, label: int, kinds: Sequence[Species], looks: Looks
) -> None:
    """Paint a blob somewhere, perhaps in the coat of a class other than ``label``."""
    size = looks.size
    frame = Frame((rng.uniform(0, size), rng.uniform(0, size)), _phase(rng), rng.uniform(0.10, 0.28) * size)
    coat = Coat(int(rng.integers(len(PATTERNS))), hue := rng.random(), hue + 0.08)
    if rng.random() < looks.distractor_coat:
        other = kinds[(label + int(rng.integers(1, len(kinds)))) % len(kinds)]
        coat = other.body if rng.random() < 0.5 else other.tail
    window = frame.window(1.1, size)
    u, v = frame.coordinates(window)
    cover = ellipse(u, v, 0, 1, rng.uniform(0.35, 0.9), 1.5 / frame.length)
    paint(canvas, window, cover, wear(rng, coat, u, v, rng.uniform(5, 8), looks.hue_jitter))


def creature(
    canvas: np.ndarray, rng: np.random.Generator, label: int, kinds: Sequence[Species], looks: Looks
) -> tuple[np.ndarray, np.ndarray]:
    """Paint a creature and return the masks of the whole and of its head: bool (S, S) each."""
    frame = place(rng, looks)
    window = frame.window(1.3, looks.size)
    u, v = frame.coordinates(window)
    spine = v + np.float32(looks.bend) * np.sin(2.2 * u + np.float32(_phase(rng))) * (u < 0.5)
    edge = 1.5 / frame.length
    r = looks.head_radius

    tail = ellipse(u, spine, -0.72, 0.30, 0.20, edge)
    coat = _coat_owner(rng, label, kinds, looks.tail_true).tail
    paint(canvas, window, tail, wear(rng, coat, u, spine, rng.uniform(11, 14), looks.hue_jitter))

    body = ellipse(u, spine, -0.05, 0.58, kinds[label].girth * rng.uniform(0.85, 1.15), edge)
    coat = _coat_owner(rng, label, kinds, looks.body_true).body
    paint(canvas, window, body, wear(rng, coat, u, spine, rng.uniform(10, 13), looks.hue_jitter))

    head = ellipse(u, v, 1 - r, r, 0.95 * r, edge)
    colour = wear(rng, kinds[label].head, u - np.float32(1 - r), v, rng.uniform(13, 16), looks.head_jitter, bright=True)
    grey = np.full((3, 1, 1), rng.uniform(0.35, 0.65), np.float32)
    paint(canvas, window, head, colour if rng.random() < looks.head_shown else grey)

    masks = np.zeros((2, looks.size, looks.size), bool)
    masks[0][window] = np.maximum(np.maximum(tail, body), head) > 0.5
    masks[1][window] = head > 0.5
    return masks[0], masks[1]


def place(rng: np.random.Generator, looks: Looks) -> Frame:
    """Choose size, direction and a place where the creature is completely, or almost, inside the image."""
    half = rng.uniform(looks.scale[0], looks.scale[1]) * looks.size / 2
    angle = _phase(rng)
    centre = []
    for across in (np.cos(angle), np.sin(angle)):
        reach = half * (0.9 * abs(across) + 0.25)
        low, high = min(reach, looks.size / 2), max(looks.size - reach, looks.size / 2)
        centre.append(rng.uniform(low, high))
    return Frame((centre[0], centre[1]), angle, half)


def wear(
    rng: np.random.Generator,
    coat: Coat,
    u: np.ndarray,
    v: np.ndarray,
    frequency: float,
    jitter: float,
    bright: bool = False,
) -> np.ndarray:
    """Colour a coat: float32 (3, h, w).

    Args:
        rng: generator for the pattern's phase and the hues.
        coat: pattern and hues.
        u: coordinates along the part.
        v: coordinates across it.
        frequency: radians per unit of u and v.
        jitter: standard deviation of both hues.
        bright: whether to use more contrast, as for heads.
    """
    light, dark = (1.0, 0.25) if bright else (0.8, 0.35)
    first = rgb(coat.hue + rng.normal(0, jitter), 0.85, light)
    second = rgb(coat.second_hue + rng.normal(0, jitter), 0.7, dark)
    return two_tone(pattern(coat.kind, u, v, frequency, _phase(rng)), first, second)


def develop(canvas: np.ndarray, rng: np.random.Generator, looks: Looks) -> np.ndarray:
    """Set the light, add grain and round: uint8 (S, S, 3)."""
    grain = np.float32(looks.grain) * rng.standard_normal(canvas.shape, dtype=np.float32)
    lit = canvas * np.float32(rng.uniform(looks.light[0], looks.light[1])) + grain
    planes = (np.clip(lit, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def _alike(value: Any, default: Any) -> Any:
    """Convert to the type of the default."""
    return tuple(float(v) for v in value) if isinstance(default, tuple) else type(default)(value)


def _coat_owner(rng: np.random.Generator, label: int, kinds: Sequence[Species], true: float) -> Species:
    """Return the creature's own species with probability ``true``, otherwise a random one."""
    return kinds[label if rng.random() < true else int(rng.integers(len(kinds)))]


def _phase(rng: np.random.Generator) -> float:
    return rng.uniform(0, 2 * np.pi)
