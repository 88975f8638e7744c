"""The contract of backbones, as checks that run on any backbone: each passes or says what to fix."""

from __future__ import annotations

import copy
import inspect
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from torch import Tensor, nn

from wsol.backbones.base import Backbone
from wsol.backbones.resnet import ResNet
from wsol.backbones.timm import Timm
from wsol.errors import InputError, first_line
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer
from wsol.types import FeatureInfo

CLASSES = 5
SIDES = (96, 128)
"""Height and width of the images in most checks, pixels; enlarged if the network needs more."""
BF16_TOLERANCE = 0.1
"""Largest mean difference between bfloat16 and float32 features, in standard deviations."""


class CheckResult(NamedTuple):
    """The result of a check."""

    name: str
    passed: bool
    said: str
    """What was found; for a failed check also what to do."""


class Violation(Exception):
    """A check failed; the message says what was found and what to do."""


def contract(make: partial[Backbone], *, speed: bool = True) -> Iterator[CheckResult]:
    """Run every check on the backbone that ``make()`` builds; its keyword ``weights`` may be a file."""
    torch.manual_seed(0)
    backbone = make()
    if not isinstance(backbone, Backbone):
        kind = type(backbone).__name__
        yield CheckResult("is a Backbone", False, f"{kind} is not one: derive it from wsol.backbones.base.Backbone")
        return
    yield CheckResult("is a Backbone", True, type(backbone).__name__)
    checks: list[tuple[str, Callable[[], str]]] = [
        ("points and aliases", lambda: points(backbone)),
        ("channels and strides", lambda: strides(backbone)),
        ("taps and edits", lambda: edits(backbone)),
        ("smallest input", lambda: smallest(backbone)),
        ("strict weights", lambda: weights(make)),
        ("gradients everywhere", lambda: gradients(backbone)),
        ("images are independent", lambda: independence(backbone)),
        ("map's mean plus bias is the score", lambda: identity(backbone)),
        ("distributed training", lambda: distributed(backbone)),
        ("bfloat16", lambda: bfloat16(backbone)),
        ("channels last", lambda: channels_last(backbone)),
        ("preprocessing", lambda: preprocessing(backbone)),
    ]
    for name, check in [*checks, *([("speed", lambda: against_resnet50(backbone))] if speed else [])]:
        torch.manual_seed(0)
        try:
            said = check()
        except Violation as broken:
            yield CheckResult(name, False, str(broken))
        except Exception as error:  # any exception of foreign code is a finding
            yield CheckResult(name, False, f"{type(error).__name__}: {first_line(error)}")
        else:
            yield CheckResult(name, True, said)


def images(backbone: Backbone, count: int = 2) -> Tensor:
    """Return random images float32 (N, 3, H, W) that the backbone accepts."""
    height, width = (fitting(backbone, max(side, -(-backbone.min_size // 32) * 32)) for side in SIDES)
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def fitting(backbone: Backbone, side: int) -> int:
    """Return the side of an image, or the next larger side that the backbone accepts, pixels."""
    return -(-side // backbone.multiple) * backbone.multiple


def localizer(backbone: Backbone) -> Localizer:
    """Return a copy of the backbone with CAM's head."""
    return Localizer(copy.deepcopy(backbone), partial(GapHead), num_classes=CLASSES)


def points(backbone: Backbone) -> str:
    """``last`` is the last point, and the three aliases go from fine to coarse."""
    names = list(backbone.points)
    if not names or names[-1] != "last":
        raise Violation("the points do not end with `last`: call self.declare(steps, aliases) in __init__")
    if list(backbone.aliases) != list(Backbone.ALIASES):
        raise Violation(
            f"aliases are {list(backbone.aliases)}: declare(..., aliases=(early, mid, late)) with names of steps"
        )
    if lost := [name for name in backbone.read_only if name not in backbone.points]:
        raise Violation(f"read_only has {lost[0]!r}, which is not a point: add it to self.points, or remove it")
    if lost := [name for name in backbone.aliases.values() if name not in places(backbone)]:
        raise Violation(f"alias {lost[0]!r} does not name a step: aliases are names of steps")
    found = [backbone.points[name].stride for name in backbone.aliases.values()]
    if found != sorted(found):
        raise Violation(f"early, mid and late have strides {found}: name points in the order of the forward pass")
    return f"{len(names)} points; early, mid, late: {', '.join(backbone.aliases.values())}"


def places(backbone: Backbone) -> dict[str, FeatureInfo]:
    """Return the points of steps, which can be edited."""
    return {name: point for name, point in backbone.points.items() if name not in backbone.read_only}


@torch.no_grad()
def strides(backbone: Backbone) -> str:
    """Every point has the channels and the stride that it declares, at two sizes."""
    backbone.eval()
    small = images(backbone, 1)
    height, width = small.shape[2:]
    by = fitting(backbone, 32 * max(1, max(point.stride for point in backbone.points.values()) // 32))
    names = list(backbone.points)
    before, after = backbone(small, taps=names), backbone(torch.randn(1, 3, height + by, width + 2 * by), taps=names)
    for name, point in backbone.points.items():
        if before[name].ndim != 4 or before[name].shape[1] != (point.channels or before[name].shape[1]):
            raise Violation(
                f"{name} gives {tuple(before[name].shape)}, declared with {point.channels} channels: features are "
                "(N, C, h, w); correct its Step"
            )
        if not point.stride:
            if after[name].shape[2:] != (1, 1):
                raise Violation(f"{name} has stride 0, but returns {tuple(after[name].shape)}: expected (N, C, 1, 1)")
            continue
        grown = tuple(a - b for a, b in zip(after[name].shape[2:], before[name].shape[2:], strict=True))
        if grown != (by // point.stride, 2 * by // point.stride):
            raise Violation(
                f"{name}: images larger by {by} x {2 * by} make maps larger by {grown[0]} x {grown[1]}, which is not "
                f"the declared stride {point.stride}: correct its Step"
            )
    last, size = backbone.points["last"], tuple(before["last"].shape[2:])
    return f"{last.channels} channels, stride {last.stride}, {size} map of {height} x {width} pixels"


class _Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5


@torch.no_grad()
def edits(backbone: Backbone) -> str:
    """An edit changes its point and those after it, not those before; the next forward pass is unaffected."""
    backbone.eval()
    batch = images(backbone, 1)
    names = list(dict.fromkeys(backbone.resolve(name) for name in places(backbone)))
    plain = backbone(batch, taps=[*names, "last"])
    for place in ("early", "late"):
        at = names.index(backbone.resolve(place))
        edited = backbone(batch, taps=[*names, "last"], edits={place: _Half()})
        if any(not torch.equal(edited[name], plain[name]) for name in names[:at]):
            raise Violation(f"an edit at {place} changed a point before it: features must not be altered in place")
        if not torch.allclose(edited[names[at]], plain[names[at]] * 0.5):
            raise Violation(f"the tap {names[at]} does not contain its edit: run steps through Backbone.forward")
        if torch.equal(edited["last"], plain["last"]):
            raise Violation(
                f"an edit at {place} does not reach the last features: later steps must read what it returned"
            )
    for name in backbone.read_only:
        try:
            backbone(batch, edits={name: _Half()})
        except InputError:
            continue
        raise Violation(f"an edit at {name}, which is read-only, is not refused: call self.place in forward")
    if not torch.equal(backbone(batch)["last"], plain["last"]):
        raise Violation("two forward passes of the same images differ in eval: no state may change in a forward pass")
    return f"{len(names)} places" + (f", {len(backbone.read_only)} read-only" if backbone.read_only else "")


@torch.no_grad()
def smallest(backbone: Backbone) -> str:
    """The smallest input works, and one pixel less is refused with a message."""
    backbone.eval()
    side = backbone.min_size
    if backbone(torch.zeros(1, 3, side, side))["last"].numel() == 0:
        raise Violation(f"min_size = {side} makes an empty map: raise min_size")
    refused = [side - 1] * (side > 1) + [side + 1] * (backbone.multiple > 1)
    for other in refused:
        try:
            backbone(torch.zeros(1, 3, other, other))
        except InputError:
            continue
        raise Violation(
            f"images of {other} pixels are not refused though min_size is {side} and sides are multiples of "
            f"{backbone.multiple}: do not override _check"
        )
    step = f", multiples of {backbone.multiple}" if backbone.multiple > 1 else ""
    return f"{side} pixels{step}" if refused else "any"


def weights(make: partial[Backbone]) -> str:
    """Weights load strictly from a file, and a misnamed tensor is refused."""
    if "weights" not in _arguments(make):
        raise Violation(
            "takes no argument `weights`: add `weights: str | None = None` and end __init__ with self.load(...)"
        )
    torch.manual_seed(1)
    one = make()
    of_timm = isinstance(one, Timm)  # its files contain the whole model, classifier included
    whole = timm.create_model(make.keywords["name"], **make.keywords.get("options") or {}) if of_timm else one
    state = {key: value.clone() for key, value in whole.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.pth"
        torch.save(state, file)
        loaded = make(weights=str(file)).state_dict()
        expected = make(weights=str(file)).state_dict() if of_timm else state
        if different := [key for key, value in expected.items() if not torch.equal(loaded[key], value)]:
            raise Violation(f"{different[0]} differs from the file: call self.load(weights, ...) after all submodules")
        first = next(iter(state))
        torch.save({f"{key}_misnamed" if key == first else key: value for key, value in state.items()}, file)
        try:
            make(weights=str(file))
        except InputError:
            return f"{len(state)} tensors"
    raise Violation(f"a file that misnames {first} was loaded silently: use self.load, which is strict")


def _arguments(make: partial[Backbone]) -> set[str]:
    return set(inspect.signature(make.func).parameters)


def gradients(backbone: Backbone) -> str:
    """In training every parameter has a finite gradient."""
    model = localizer(backbone).train()
    model(images(backbone)).logits.square().sum().backward()
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if lost := [name for name, p in trainable.items() if p.grad is None]:
        raise Violation(
            f"{len(lost)} parameters get no gradient, the first is {lost[0]}: delete modules that no step runs "
            "(an unused classifier), or freeze them with requires_grad_(False)"
        )
    if bad := [name for name, p in trainable.items() if p.grad is not None and not p.grad.isfinite().all()]:
        raise Violation(f"the gradient of {bad[0]} is not finite: look for a division by zero or a logarithm")
    return f"{sum(p.numel() for p in trainable.values()) / 1e6:.2f} M parameters, including the head"


@torch.no_grad()
def independence(backbone: Backbone) -> str:
    """In evaluation mode the scores of an image do not depend on the rest of its batch."""
    model, batch = localizer(backbone).eval(), images(backbone)
    together, alone = model(batch).logits, torch.cat([model(image[None]).logits for image in batch])
    if not torch.allclose(together, alone, rtol=1e-3, atol=1e-3 * float(together.abs().max())):
        raise Violation("an image's scores change with its batch: in eval use running statistics, and mix no images")
    return f"largest difference {(together - alone).abs().max():.1e}"


@torch.no_grad()
def identity(backbone: Backbone) -> str:
    """CAM, equations 1 and 2: the map's mean plus the bias is the class score."""
    model, batch = localizer(backbone).eval(), images(backbone)
    output = model(batch)
    maps = model.maps(output, torch.arange(CLASSES).expand(len(batch), -1))
    assert isinstance(model.head, GapHead)
    off = (maps.mean((2, 3)) + model.head.classifier.bias - output.logits).abs().max() / output.logits.abs().max()
    if not off < 1e-4:
        raise Violation(
            f"they differ by {float(off):.1e} of the largest score: the last features must be (N, C, h, w), finite"
        )
    return f"to {float(off):.0e}"


def distributed(backbone: Backbone) -> str:
    """Two training steps under DistributedDataParallel, which refuses parameters that a step does not use."""
    import torch.distributed as dist

    if dist.is_initialized():
        raise Violation("a process group already exists: run this check in a separate process")
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
        try:
            model = nn.parallel.DistributedDataParallel(localizer(backbone).train())
            for _ in range(2):
                model(images(backbone)).logits.square().sum().backward()
        except RuntimeError as error:
            raise Violation(f"{first_line(error)}: every parameter must be used in every step") from error
        finally:
            dist.destroy_process_group()
    return "two steps, one process"


@torch.no_grad()
def bfloat16(backbone: Backbone) -> str:
    """Under autocast the features are finite and close to those of float32."""
    backbone.eval()
    batch = images(backbone)
    single = backbone(batch)["last"].float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = backbone(batch)["last"].float()
    if not half.isfinite().all():
        raise Violation("features are not finite under bfloat16 autocast: compute sums and norms in float32")
    off = float((half - single).abs().mean() / single.std().clamp_min(1e-12))
    if off > BF16_TOLERANCE:
        raise Violation(f"features are {off:.2f} standard deviations off on average: keep sensitive parts in float32")
    return f"{off:.3f} standard deviations off on average"


@torch.no_grad()
def channels_last(backbone: Backbone) -> str:
    """The memory layout does not change the features."""
    model = copy.deepcopy(backbone).eval()
    batch = images(backbone)
    plain = model(batch)["last"]
    other = model.to(memory_format=torch.channels_last)(batch.contiguous(memory_format=torch.channels_last))["last"]
    if not torch.allclose(plain, other, rtol=1e-3, atol=1e-3 * float(plain.abs().max())):
        raise Violation("channels-last images give other features: use reshape and permute, not view, on features")
    return "same features"


def preprocessing(backbone: Backbone) -> str:
    """The preprocessing is declared and makes sense."""
    expected = backbone.preprocessing
    if not (len(expected.mean) == len(expected.std) == 3 and all(0 < std <= 1 for std in expected.std)):
        raise Violation(f"mean {expected.mean}, std {expected.std}: expected three values in [0, 1] for each")
    if expected.size < backbone.min_size:
        raise Violation(f"size {expected.size} is below min_size {backbone.min_size}: set preprocessing.size")
    return f"{expected.size} pixels, {expected.interpolation}"


def against_resnet50(backbone: Backbone, rounds: int = 2, batch: int = 2) -> str:
    """Compare the training speed with ResNet-50's, in images per second, measured in turns; never fails."""
    models = [localizer(backbone).train(), localizer(ResNet(50)).train()]
    side = fitting(backbone, max(backbone.preprocessing.size, backbone.min_size))
    pictures = [torch.randn(batch, 3, side, side), torch.randn(batch, 3, 224, 224)]
    best = [float("inf")] * 2
    for _ in range(rounds + 1):
        for i, model in enumerate(models):
            started = time.perf_counter()
            model(pictures[i]).logits.sum().backward()
            best[i] = min(best[i], time.perf_counter() - started)
    own, other = (batch / seconds for seconds in best)
    return f"{own:.1f} images/s at {side} px; ResNet-50 {other:.1f} at 224 px; ratio {own / other:.2f} (training, CPU)"
