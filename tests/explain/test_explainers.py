"""All explainers: what every one promises, and what each must equal."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.explain.networks import CLASSES, MODELS, NAMES, localizer, made, plain
from wsol.errors import InputError
from wsol.explain.bagcams import BagCAMs
from wsol.explain.gradcam import GradCAM
from wsol.explain.guided_backprop import GuidedBackprop
from wsol.explain.integrated_gradients import IntegratedGradients
from wsol.explain.occlusion import Occlusion
from wsol.explain.saliency import Saliency


@pytest.mark.parametrize("network", MODELS)
@pytest.mark.parametrize("name", NAMES)
def test_no_batch_and_no_chunk_changes_a_map(name: str, network: str, images: Tensor) -> None:
    model = MODELS[network]()
    maps = made(name)(model, images, CLASSES)
    assert maps.shape[:2] == (4, 2)
    assert maps.dtype == torch.float32
    assert not maps.requires_grad
    assert maps.isfinite().all()
    assert (maps.flatten(2).amax(2) > maps.flatten(2).amin(2)).any(), "all maps are flat"
    alone = torch.cat([made(name)(model, images[i : i + 1], CLASSES[i : i + 1]) for i in range(4)])
    by_class = torch.cat([made(name)(model, images, CLASSES[:, m : m + 1]) for m in range(2)], 1)
    for other in (alone, by_class, *(made(name, chunk_size=size)(model, images, CLASSES) for size in (1, 3, 64))):
        torch.testing.assert_close(other, maps, rtol=1e-4, atol=1e-5 * maps.abs().max().item())


def state_of(model: nn.Module) -> dict:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": {name: [len(getattr(module, kind)) for kind in hooks] for name, module in model.named_modules()},
        "flags": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "grads": {name: None if p.grad is None else p.grad.tolist() for name, p in model.named_parameters()},
        "values": {name: value.tolist() for name, value in model.state_dict().items()},
    }


def used(model: nn.Module) -> nn.Module:
    """In training, with one part in evaluation, one parameter frozen and gradients that must stay."""
    model.train()
    next(model.children()).eval()
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.ones_like(parameters[1])
    return model


@pytest.mark.parametrize("network", MODELS)
@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_left_as_it_was(name: str, network: str, images: Tensor) -> None:
    model, given = used(MODELS[network]()), images.clone()
    before = state_of(model)
    made(name)(model, images, CLASSES)
    assert state_of(model) == before
    assert torch.equal(images, given)
    assert not images.requires_grad


@pytest.mark.parametrize("network", MODELS)
@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_left_as_it_was_after_an_error(name: str, network: str, images: Tensor) -> None:
    model = used(MODELS[network]())
    before = state_of(model)
    with pytest.raises(InputError, match=r"class 5: the network has the classes 0\.\.4"):
        made(name)(model, images, torch.full((4, 1), 5))
    assert state_of(model) == before


class Breaking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("broke")


@pytest.mark.parametrize("name", NAMES)
def test_an_error_inside_the_network_leaves_no_hook(name: str, images: Tensor) -> None:
    model = used(localizer())
    model.head.dropout = Breaking()
    before = state_of(model)
    with pytest.raises(RuntimeError, match="broke"):
        made(name)(model, images, CLASSES)
    assert state_of(model) == before


@pytest.mark.parametrize("name", NAMES)
def test_maps_are_made_under_inference_mode_too(name: str, images: Tensor) -> None:
    model = localizer()
    expected = made(name)(model, images, CLASSES)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        inside = images * 1.0
        model.eval()(inside)  # fills autocast's cache of weights
        found = made(name)(model, inside, CLASSES)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradCAM(layout="nwhc"), "did you mean 'nhwc'"),
        (lambda: GradCAM(layout="tokens"), "name the layer, too"),
        (lambda: BagCAMs(relu="guide"), "did you mean 'guided'"),
        (lambda: Saliency(chunk_size=0), "chunk_size: expected a number"),
        (lambda: Occlusion(window=4, stride=5), "1 <= stride <= window"),
        (lambda: IntegratedGradients(steps=0), "steps: expected"),
        (
            lambda: Occlusion(window=17, stride=8)(plain(), torch.zeros(1, 3, 16, 16), CLASSES[:1]),
            "use a smaller window",
        ),
        (lambda: Saliency()(plain(), torch.zeros(2, 3, 16, 16), CLASSES[:1]), "expected images"),
        (lambda: Saliency()(nn.Conv2d(3, 5, 1), torch.zeros(1, 3, 4, 4), CLASSES[:1]), "give a classifier"),
        (
            lambda: GuidedBackprop()(
                nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), torch.zeros(1, 3, 2, 2), CLASSES[:1]
            ),
            "no ReLU",
        ),
    ],
)
def test_bad_input_is_one_clear_message(make: Callable, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_no_classes_give_no_maps(images: Tensor) -> None:
    assert GradCAM()(plain(), images, torch.zeros(4, 0, dtype=torch.int64)).shape[:2] == (4, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("images_too", [True, False])
def test_a_network_of_another_precision_is_asked_in_float32_and_left_as_it_was(
    images: Tensor, dtype: torch.dtype, images_too: bool
) -> None:
    model = plain().to(dtype)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pointers = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    found = GradCAM()(model, images.to(dtype) if images_too else images, CLASSES)
    expected = GradCAM()(copy.deepcopy(model).float(), images.to(dtype).float() if images_too else images, CLASSES)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == weights[name].dtype
        assert torch.equal(tensor, weights[name])
        assert tensor.data_ptr() == pointers[name]
    with pytest.raises(InputError):
        GradCAM("nowhere")(model, images, CLASSES)
    assert {tensor.dtype for tensor in model.state_dict().values() if tensor.is_floating_point()} == {dtype}
