"""SCM against its network written out, its layers, and what it refuses."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import wsol
from tests.choices import SMALL_VIT
from tests.reference_vit import Reference, scaled
from wsol.backbones.vit import ViT
from wsol.errors import InputError
from wsol.heads.scm import ScmHead, inverse, laplacian
from wsol.heads.tscam import TscamHead
from wsol.models.localizer import Localizer

CLASSES = 5
SIDE = 96
POINTS = ViT("deit_tiny_patch16_224", **SMALL_VIT).named_points
LABELS = torch.tensor([3, 1])


def network(head=ScmHead, **options) -> Localizer:
    torch.manual_seed(0)
    return Localizer(ViT("deit_tiny_patch16_224", **SMALL_VIT), partial(head, **options), CLASSES)


def test_it_is_the_network_of_the_paper_in_training_and_in_evaluation() -> None:
    torch.manual_seed(1)
    reference, images = Reference("SCM", CLASSES, 24, 3, 2, SIDE), torch.randn(2, 3, SIDE, SIDE)
    model = network()
    state = reference.translated()
    model.backbone.pos_embed = torch.nn.Parameter(state["backbone.pos_embed"].clone())
    model.backbone.patch_embed.grid_size = (SIDE // 16, SIDE // 16)
    model.load_state_dict(state)

    scores, maps = reference(images)
    with torch.no_grad():
        output = model.eval()(images)
        found = model.maps(output, torch.arange(CLASSES).expand(2, -1))
    assert torch.allclose(output.logits, scores, atol=1e-5)
    assert torch.allclose(found, maps, atol=1e-5)

    expected, trained = reference.calibrated(), model.train()(images)
    assert torch.allclose(trained.logits, expected, atol=1e-5)
    assert (trained.logits - output.logits).abs().max() > 0.01
    torch.nn.functional.cross_entropy(expected, LABELS).backward()
    model.loss(trained, torch.eye(CLASSES)[LABELS])["classification"].backward()
    theirs = {name: p.grad for name, p in reference.named_parameters()}
    ours = {name: p.grad for name, p in model.named_parameters()}
    assert all(gradient is not None for gradient in ours.values())
    for mine, his in (("head.layers.0.similarity", "layers.0.fuse._loss_rate"), ("backbone.cls_token", "cls_token")):
        assert torch.allclose(ours[mine], theirs[his], rtol=1e-3, atol=1e-6)
        assert theirs[his].abs().max() > 1e-6


@torch.no_grad()
def test_without_layers_it_is_tscam_with_attention_scaled_to_its_range() -> None:
    plain, bare, images = network(TscamHead), network(iterations=[]), torch.randn(2, 3, 64, 96)
    bare.load_state_dict(plain.state_dict())
    classes = torch.tensor([[4, 0], [1, 3]])
    for mode in (True, False):
        expected, output = plain.train(mode)(images), bare.train(mode)(images)
        assert torch.equal(output.logits, expected.logits)
        semantic = plain.maps(expected, classes) / expected.state["attention"][:, None]
        attention = scaled(expected.state["attention"].flatten(1)).reshape(2, 1, 4, 6)
        assert torch.allclose(bare.maps(output, classes), semantic * attention, atol=1e-5)


def test_a_laplacian_has_up_to_four_neighbours_and_rows_that_sum_to_0() -> None:
    found = laplacian(3, 4)
    assert torch.equal(found.sum(1), torch.zeros(12))
    assert found.diag().tolist() == [2, 3, 3, 2, 3, 4, 4, 3, 2, 3, 3, 2]
    assert found[5].nonzero().flatten().tolist() == [1, 4, 5, 6, 9]


def test_newton_and_schulz_find_the_inverse() -> None:
    matrices = torch.eye(6) + 0.2 * torch.randn(3, 6, 6)
    assert torch.allclose(inverse(matrices, 60, 0.05), torch.linalg.inv(matrices), atol=1e-4)


def test_a_grid_of_one_cell_and_autocast_give_finite_gradients() -> None:
    for side in (16, 64):
        model, images = network().train(), torch.randn(2, 3, side, side)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(images)
            loss = model.loss(output, torch.eye(CLASSES)[LABELS])["classification"]
        assert output.logits.dtype == torch.float32
        loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": [4, 0]}, "iterations: expected 1 or more for each layer, got"),
        ({"alpha": 0.0}, "alpha: expected more than 0, got 0.0"),
        ({"map": "produkt"}, "unknown map 'produkt'"),
    ],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ScmHead(POINTS, CLASSES, **options)


def test_a_convolutional_network_has_no_attention() -> None:
    with pytest.raises(InputError, match=r"method.head reads the point 'attention', which Tiny does not have.*deit_s"):
        wsol.create_localizer("tiny", method="scm", num_classes=CLASSES)
