"""Every method on every backbone at strides 8 and 16: a newcomer of either kind is tested by its YAML file being there.

All pairs with a network that is small enough here are always tested; of the others each backbone and stride with one
method in turn, the rest under ``slow``.
"""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from tests.choices import choices, load_choice, load_small_backbone
from wsol.config import build
from wsol.config.construct import locate
from wsol.errors import InputError

CLASSES = 5
STRIDES = (8, 16)
THIN = {"width": 8, "widths": [8, 8, 8, 16], "conv_channels": 8, "b_width": 8, "c_width": 8}
"""What makes networks small, by the name of the option; options that are null or not there stay so."""


def load(group: str, name: str) -> Any:
    config = load_small_backbone(name) if group == "backbone" else load_choice(group, name)
    node = config.get("head", config)
    for key, value in THIN.items():
        if node.get(key) is not None:
            node[key] = value
    return config


METHODS = {name: load("method", name) for name in choices("method")}
BACKBONES = {name: load("backbone", name) for name in choices("backbone")}
ANYWHERE = [name for name in METHODS if "/" not in name]
"""Methods that go with any backbone; ``adl/vgg16`` is ADL at points of VGG-16."""
READ_ONLY = {name: locate(backbone._target_, name).read_only for name, backbone in BACKBONES.items()}
"""Points that only some backbones have."""
AGAIN = "reruns"
"""Option of methods that run stages again, which not every backbone can."""
NEEDS = {"adl/inception_v3": {"extra_convs": 2}}
"""Options of the backbone that a method's file asks for."""


def lacks(method: str, backbone: str) -> set[str]:
    """Points that the method's head reads and that only other backbones have; `AGAIN` where stages cannot run again."""
    special = {point for points in READ_ONLY.values() for point in points}
    options = [value for value in METHODS[method].head.values() if isinstance(value, str)]
    stuck = AGAIN in METHODS[method].head and not locate(BACKBONES[backbone]._target_, backbone).reruns
    return special.intersection(options) - set(READ_ONLY[backbone]) | ({AGAIN} if stuck else set())


def is_small(backbone: Any) -> bool:
    return any(key in backbone for key in THIN) and backbone.get("depth", 0) < 50


def cases() -> list:
    found, turn = [], 0
    for name, backbone in BACKBONES.items():
        for stride in STRIDES:
            turn += 1
            own = [method for method in METHODS if method.endswith(f"/{name}")]
            fitting = [method for method in [*ANYWHERE, *own] if not lacks(method, name)]
            anywhere = len(fitting) - len(own)
            for number, method in enumerate(fitting):
                always = is_small(backbone) and ("heads" not in backbone or stride == 16)  # a ViT has one stride
                always = always or number == turn % anywhere or (method in own and stride == 16)
                marks = () if always else pytest.mark.slow
                found.append(pytest.param(method, name, stride, marks=marks, id=f"{method}-{name}-{stride}"))
    return found


def localizer(method: str, backbone: str, stride: int) -> Any:
    """Return the network at this stride or, where the backbone has no such stride, at its own."""
    torch.manual_seed(0)
    config = OmegaConf.create({"backbone": {**BACKBONES[backbone], **NEEDS.get(method, {})}, "method": METHODS[method]})
    own, config.backbone.output_stride = config.backbone.output_stride, stride
    classes = tuple(map(str, range(CLASSES)))
    try:
        model = build.build_localizer(config, classes)
        assert model.backbone.points["last"].stride == stride
    except InputError as error:
        assert "output_stride" in str(error)  # noqa: PT017 anything else is a failure
        config.backbone.output_stride = own
        model = build.build_localizer(config, classes)
    return model


def maps_of(model: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores, and maps or boxes."""
    with torch.inference_mode():
        output = model.eval()(images)
        if model.gives_boxes:
            return output.logits, model.boxes(output)
        return output.logits, model.maps(output, torch.tensor([[0, 4], [3, 3]]))


def pseudo_of(model: Any, images: torch.Tensor) -> torch.Tensor | None:
    """Pseudo targets of images (N, 3, H, W), where the method learns from them."""
    if model.head.pseudo is None:
        return None
    count, _, height, width = images.shape
    if model.head.pseudo == "boxes":
        return torch.tensor([[0.1, 0.2, 0.6, 0.9]]).repeat(count, 1)
    masks = torch.zeros(count, 1, height, width, dtype=torch.uint8)
    masks[..., : height // 2] = 1
    return masks


@pytest.mark.parametrize(("method", "backbone", "stride"), cases())
def test_trains_a_step_evaluates_saves_and_loads(method: str, backbone: str, stride: int) -> None:
    model = localizer(method, backbone, stride)
    untrained = copy.deepcopy(model)
    side, multiple = max(64, 2 * model.backbone.min_size), model.backbone.multiple
    side = -(-side // multiple) * multiple
    images, targets = torch.randn(2, 3, side, side), torch.eye(CLASSES)[:2]
    groups = model.parameter_groups()

    inputs, mixed = images, targets
    for number, node in enumerate(METHODS[method].batch_transforms):
        inputs, mixed = build.instantiate(node, f"method.batch_transforms[{number}]")(inputs, mixed)
    assert mixed.shape == (2, CLASSES)
    assert torch.allclose(mixed.sum(1), torch.ones(2))
    losses = model.loss(model.train()(inputs, labels=mixed.argmax(1)), mixed, pseudo=pseudo_of(model, inputs))
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name}: distributed training waits for its gradient"
        assert parameter.grad.isfinite().all(), name
    optimizer = torch.optim.SGD([{"params": [p for _, p in group]} for group in groups.values()], lr=1e-3)
    optimizer.step()
    before = dict(untrained.named_parameters())
    for part, group in groups.items():
        assert any(not torch.equal(parameter, before[name]) for name, parameter in group), f"{part} learns nothing"

    logits, maps = maps_of(model, images)
    assert logits.shape == (2, CLASSES if model.classifies else 0)
    assert maps.dtype == torch.float32
    assert logits.isfinite().all()
    assert maps.isfinite().all()
    if model.gives_boxes:
        assert maps.shape == (2, 4)
        assert ((maps >= 0) & (maps <= 1)).all()
        assert (maps[:, :2] <= maps[:, 2:]).all()
    else:
        with torch.inference_mode():
            point = model.head.reruns or "last"  # where the maps are made
            height, width = model.backbone(images, taps=[point])[point].shape[2:]
        assert maps.shape == (2, 2, height, width)
        assert torch.allclose(maps[1, 0], maps[1, 1], atol=1e-5)

    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    before_training = maps_of(untrained, images)
    assert any(not torch.equal(a, b) for a, b in zip(before_training, (logits, maps), strict=True))
    untrained.load_state_dict(torch.load(file, weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(maps_of(untrained, images), (logits, maps), strict=True))


@pytest.mark.parametrize("method", [name for name in METHODS if any(lacks(name, backbone) for backbone in BACKBONES)])
def test_backbones_without_a_point_that_a_method_reads_are_refused_with_those_that_have_it(method: str) -> None:
    able = [name for name in BACKBONES if not lacks(method, name)]
    assert able
    tried = {}
    for name in BACKBONES:
        if name not in able:
            tried.setdefault(BACKBONES[name]._target_, name)
    for name in tried.values():
        (point,) = lacks(method, name)
        config = OmegaConf.create({"backbone": BACKBONES[name], "method": METHODS[method]})
        what = "cannot rerun the stages after a point" if point == AGAIN else f"reads the point '{point}'"
        with pytest.raises(InputError, match=f"{what}.*backbone={', '.join(able)}"):
            build.build_localizer(config, tuple("abc"))


def test_each_method_and_each_backbone_is_always_tested() -> None:
    always = [case.values for case in cases() if not case.marks]
    assert {method for method, _, _ in always} == set(METHODS)
    assert {(backbone, stride) for _, backbone, stride in always} == {(b, s) for b in BACKBONES for s in STRIDES}
