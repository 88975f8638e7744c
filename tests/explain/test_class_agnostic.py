"""Explainers that know no classes: LOST, TokenCut, DINO attention, patch PCA and PC1, on any network that has what they
read.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import yaml
from scipy.linalg import eigh
from torch import Tensor, nn
from torchvision.models import VisionTransformer, resnet18

from wsol.backbones.tiny import Tiny
from wsol.backbones.vit import ViT
from wsol.config import build
from wsol.errors import InputError
from wsol.explain import LOST, PC1, DINOAttention, EigenCAM, GradCAM, PatchPCA, TokenCut
from wsol.explain.base import ClassAgnosticExplainer
from wsol.explain.dino_attention import keep_mass
from wsol.explain.lost import lost
from wsol.explain.patches import read_patches
from wsol.explain.tokencut import tokencut
from wsol.functional.normalized_cut import second_eigenvector
from wsol.functional.principal import Moments, first_component, image_components, project
from wsol.heads.gap import GapHead
from wsol.heads.tscam import TscamHead
from wsol.models.classifier import Classifier
from wsol.models.localizer import Localizer
from wsol.types import Preprocessing

CONFIGS = Path(__file__).parents[2] / "configs" / "explainer"


def made(file: Path):
    return build.instantiate(yaml.safe_load(file.read_text(encoding="utf-8")), "explainer")


NAMES = [file.stem for file in sorted(CONFIGS.glob("*.yaml")) if isinstance(made(file), ClassAgnosticExplainer)]
SMALL = {"img_size": 48, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 2}


def timm_vit(**options) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", **{**SMALL, "num_classes": 0, **options})


def torchvision_vit() -> nn.Module:
    torch.manual_seed(0)
    return VisionTransformer(48, 16, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=48, num_classes=5)


def localizer() -> Localizer:
    torch.manual_seed(0)
    backbone = ViT("deit_tiny_patch16_224", width=24, depth=2, heads=2)
    return Localizer(backbone, partial(TscamHead), num_classes=5)


NETWORKS = {"timm": timm_vit, "torchvision": torchvision_vit, "localizer": localizer}


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "pc1"])
def test_maps_are_those_of_each_image_alone_and_the_same_for_all_classes(name, network, images) -> None:
    model, explainer = NETWORKS[network](), made(CONFIGS / f"{name}.yaml")
    maps = explainer(model, images, torch.tensor([[0, 3], [1, 1], [4, 2]]))
    assert maps.shape == (3, 2, 3, 3)
    assert torch.equal(maps[:, 0], maps[:, 1])
    assert maps.isfinite().all()
    assert (maps.flatten(2).amax(2) > maps.flatten(2).amin(2)).all(), "a map is flat"
    alone = torch.cat([explainer(model, images[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(alone, maps[:, :1], rtol=1e-3, atol=1e-4)
    assert model.training


def test_points_are_the_same_whoever_made_the_network(images: Tensor) -> None:
    """A timm ViT read by hooks and the backbone of the same weights read by its points."""
    backbone = localizer().backbone.eval()
    plain = timm_vit(num_classes=5).eval()
    plain.load_state_dict({k: v for k, v in backbone.state_dict().items() if k != "pos_embed"}, strict=False)
    plain.pos_embed.data = timm.layers.resample_abs_pos_embed(backbone.pos_embed.data, [3, 3], num_prefix_tokens=1)
    model = Localizer(backbone, partial(TscamHead), num_classes=5).eval()
    with torch.no_grad():
        for point in ("keys", "attention", "last"):
            torch.testing.assert_close(
                read_patches(plain, images, point), read_patches(model, images, point), rtol=1e-4, atol=1e-5
            )


def test_torchvision_attention_is_that_of_its_own_module(images: Tensor) -> None:
    model = torchvision_vit().eval()
    attention = model.encoder.layers[-1].self_attention
    seen = []
    handle = attention.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(images)
        handle.remove()
        weights = attention(seen[0], seen[0], seen[0], need_weights=True, average_attn_weights=False)[1]
        found = read_patches(model, images, "attention")
    torch.testing.assert_close(found, weights[:, :, 0, 1:].unflatten(2, (3, 3)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(DINOAttention()(model, images)[:, 0], found.mean(1))
    torch.testing.assert_close(DINOAttention(heads=1)(model, images)[:, 0], found[:, 1])


# -- what each must equal ----------------------------------------------------------------------------------------------


def slow_lost(keys: np.ndarray, helpers: int) -> tuple[np.ndarray, int]:
    """LOST of one image, cell by cell; keys (C, h, w)."""
    channels, height, width = keys.shape
    cells = keys.reshape(channels, -1).T.astype(np.float64)
    count = len(cells)
    degree = [sum(cells[p] @ cells[q] > 0 for q in range(count) if q != p) for p in range(count)]
    order = sorted(range(count), key=lambda p: (degree[p], p))
    seed = order[0]
    chosen = [p for p in order[:helpers] if cells[seed] @ cells[p] > 0]
    similarity = np.array([sum(cells[s] @ cells[p] for s in chosen) for p in range(count)])
    inside, queue = {seed}, deque([seed])
    while queue:
        y, x = divmod(queue.popleft(), width)
        for b, a in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            near = b * width + a
            if 0 <= b < height and 0 <= a < width and near not in inside and similarity[near] > 0:
                inside.add(near)
                queue.append(near)
    component = np.array([value if p in inside else 0.0 for p, value in enumerate(similarity)])
    return component.reshape(height, width), seed


class Keys(nn.Module):
    """Stands for a network: its images are the keys."""

    classifies = False


@pytest.mark.parametrize("helpers", [1, 5, 100])
def test_lost_against_a_slow_reference(helpers: int, monkeypatch) -> None:
    keys = torch.randn(6, 4, 5, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    monkeypatch.setattr("wsol.explain.lost.read_patches", lambda model, images, point: keys)
    found = LOST(helpers).object_maps(Keys(), keys)
    for one, of_image in zip(keys.numpy(), found, strict=True):
        expected, _ = slow_lost(one, helpers)
        np.testing.assert_allclose(of_image.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_lost_by_hand() -> None:
    """Two cells alike on the left, three on the right of which one stands apart: a grid of 1 x 5."""
    keys = torch.tensor([[[[2.0, 1.0, -1.0, -1.0, -3.0]], [[0.0, 0.0, 0.0, 0.0, 0.0]]]])
    similarity, seed = lost(keys, helpers=2)
    # Degrees 1, 1, 2, 2, 2: the first cell is the seed, both cells on the left are helpers, m = (2 + 1) k.
    assert seed.tolist() == [0]
    assert similarity.tolist() == [[[6.0, 3.0, -3.0, -3.0, -9.0]]]
    assert lost(keys, helpers=1)[0].tolist() == [[[4.0, 2.0, -2.0, -2.0, -6.0]]]


def some_weights(count: int, cells: int, noise: float) -> Tensor:
    generator = torch.Generator().manual_seed(cells)
    smooth = F.interpolate(torch.randn(count, 16, 4, 4, generator=generator), (cells, cells), mode="bicubic")
    units = F.normalize((smooth + noise * torch.randn(smooth.shape, generator=generator)).flatten(2), dim=1)
    return torch.where(units.transpose(1, 2) @ units > 0.2, 1.0, 1e-5).double()


@pytest.mark.parametrize(("cells", "noise"), [(2, 0.3), (5, 1.0), (9, 0.3), (14, 0.3), (14, 3.0)])
def test_the_cut_is_that_of_scipy(cells: int, noise: float) -> None:
    weights = some_weights(4, cells, noise)
    for one, found in zip(weights.numpy(), second_eigenvector(weights).numpy(), strict=True):
        degree = np.diag(one.sum(1))
        values, vectors = eigh(degree - one, degree, subset_by_index=[1, 2])
        residual = (degree - one) @ found - values[0] * degree @ found
        assert np.abs(residual).max() < 1e-4 * np.abs(found).max() * degree.max()
        assert found @ degree @ found == pytest.approx(1, abs=1e-6)
        if values[1] - values[0] > 1e-3:
            sign = np.sign(found @ degree @ vectors[:, 0])
            np.testing.assert_allclose(sign * found, vectors[:, 0], atol=2e-5 * np.abs(vectors[:, 0]).max())


def test_a_flat_image_and_a_split_one_are_cut_too() -> None:
    flat = torch.ones(1, 30, 30)
    assert second_eigenvector(flat).isfinite().all()
    halves = torch.full((1, 30, 30), 1e-5)
    halves[:, :12, :12] = halves[:, 12:, 12:] = 1
    found = second_eigenvector(halves)[0]
    assert found[:12].sign().unique().tolist() == [-found[12].sign().item()]
    torch.testing.assert_close(found[12:], found[12].expand(18))


def test_tokencut_puts_the_seed_into_the_foreground() -> None:
    """A small object of its own kind: the map's maximum is in it, and above the mean there is nothing else."""
    keys = torch.zeros(1, 2, 6, 6)
    keys[:, 0] = 1
    keys[:, 0, 1:3, 2:5], keys[:, 1, 1:3, 2:5] = 0, 1
    found = tokencut(keys)[0]
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[1:3, 2:5] = True
    assert torch.equal(found > found.mean(), expected)
    assert expected.flatten()[found.argmax()]
    assert found.max() == found.abs().max()
    torch.testing.assert_close(tokencut(-keys), tokencut(keys))


@pytest.mark.parametrize("channels", [5, 40], ids=["more cells", "more channels"])
@pytest.mark.parametrize("sign", ["border", "loading"])
def test_the_first_component_is_that_of_an_svd(sign, channels) -> None:
    features = torch.randn(3, channels, 4, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    features += (
        4 * torch.randn(channels, generator=torch.Generator().manual_seed(4), dtype=torch.float64)[:, None, None]
    )
    found = project(features, image_components(features, sign))
    for image, of_image in zip(features, found, strict=True):
        as_dataset = project(image[None], first_component(Moments.of(image[None]), sign))
        torch.testing.assert_close(as_dataset[0], of_image, rtol=1e-4, atol=1e-5)
    for one, of_image in zip(features, found, strict=True):
        cells = one.flatten(1).T
        _, _, rows = torch.linalg.svd(cells - cells.mean(0))
        values = ((cells - cells.mean(0)) @ rows[0]).view(4, 6)
        border = torch.ones(4, 6, dtype=torch.bool)
        border[1:-1, 1:-1] = False
        is_turned = values[border].mean() > 0 if sign == "border" else rows[0][rows[0].abs().argmax()] < 0
        torch.testing.assert_close(of_image, (-values if is_turned else values).float(), rtol=1e-4, atol=1e-5)


def test_pc1_without_the_mean_is_eigencam_up_to_sign(images: Tensor) -> None:
    model = Localizer(Tiny(widths=(4, 4, 6, 8)), partial(GapHead), num_classes=5)
    found, eigen = PC1("last", centre=False)(model, images), EigenCAM("last")(model, images)
    sign = (found * eigen).sum((2, 3), keepdim=True).sign()
    torch.testing.assert_close(sign * found, eigen, rtol=1e-3, atol=1e-4)


def test_a_component_of_a_dataset_is_fitted_saved_and_loaded(images: Tensor, tmp_path: Path) -> None:
    model, labels = timm_vit(), torch.tensor([0, 0, 1])
    explainer = PatchPCA(fit_on="dataset")
    with pytest.raises(InputError, match=r"PatchPCA has no statistics of a dataset: call fit\(model, batches\) first"):
        explainer(model, images)
    explainer.fit(model, [(images[:2], labels[:2]), (images[2:], labels[2:])])
    maps = explainer(model, images)
    with torch.no_grad():
        features = read_patches(model.eval(), images, "last")
    stacked = torch.cat([*features], 2)[None]  # one image of all cells, but for its border
    component = first_component(Moments.of(stacked), "loading")
    expected = project(features, component)
    sign = (expected * maps[:, 0]).sum().sign()
    torch.testing.assert_close(maps[:, 0], sign * expected, rtol=1e-3, atol=1e-4)
    explainer.save(tmp_path / "explainer.safetensors")
    for state in (tmp_path, tmp_path / "explainer.safetensors"):
        assert torch.equal(PatchPCA(fit_on="dataset", state=state)(model, images), maps)
    assert explainer.about() == {"sign": "border", "images": 3, "flipped": 3 * int(explainer.statistics["is_flipped"])}
    with pytest.raises(InputError, match=r"has the statistics of .*'PatchPCA'.*expected those of .*'PC1'"):
        PC1(fit_on="dataset", state=tmp_path)
    with pytest.raises(InputError, match=r"expected those of .*'loading'"):
        PatchPCA(fit_on="dataset", sign="loading", state=tmp_path)
    with pytest.raises(InputError, match="fitted on 24 channels, this network has 48"):
        explainer(timm_vit(embed_dim=48), images)
    content = (tmp_path / "explainer.safetensors").read_bytes()
    (tmp_path / "explainer.safetensors").write_bytes(content[:-8])
    with pytest.raises(InputError, match=r"explainer\.safetensors: .*leave explainer\.state out to fit again"):
        PatchPCA(fit_on="dataset", state=tmp_path)


def test_a_mask_holds_the_asked_share() -> None:
    maps = torch.rand(4, 5, 5, generator=torch.Generator().manual_seed(0))
    kept = keep_mass(maps, 0.6)
    for one, of_image in zip(kept, maps, strict=True):
        share = one.sum() / of_image.sum()
        assert share >= 0.6
        assert share - one[one > 0].min() / of_image.sum() < 0.6


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lost", "tokencut", "dino_attention", "patch_pca"])
@pytest.mark.parametrize("network", [resnet18, lambda: Localizer(Tiny(), partial(GapHead), num_classes=5)])
def test_a_network_without_attention_is_told_which_have_it(name: str, network, images: Tensor) -> None:
    with pytest.raises(InputError, match=r"has no attention.*\(deit_t, deit_s.*model=timm") as caught:
        made(CONFIGS / f"{name}.yaml")(network(), images)
    named = str(caught.value).partition("backbone (")[2].partition(")")[0].split(", ")
    assert all((CONFIGS.parent / "backbone" / f"{one}.yaml").is_file() for one in named)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_network_without_classes_has_no_class_scores_to_explain(wrapped: bool, images: Tensor) -> None:
    model = timm_vit()
    model = Classifier(model, 0, Preprocessing()) if wrapped else model
    with pytest.raises(InputError, match="GradCAM explains class scores, but this network does not classify"):
        GradCAM("blocks.1", "tokens")(model, images, torch.zeros(3, 1, dtype=torch.int64))
    assert LOST()(model, images).shape == (3, 1, 3, 3)


def test_classes_are_needed_where_maps_are_of_classes_and_must_exist(images: Tensor) -> None:
    with pytest.raises(InputError, match=r"GradCAM needs classes \(N, M\): its maps are of classes"):
        GradCAM()(resnet18(), images)
    with pytest.raises(InputError, match=r"class 5: the network has the classes 0\.\.4"):
        TokenCut()(localizer(), images, torch.full((3, 1), 5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LOST(helpers=0), "helpers: expected a number"),
        (lambda: LOST(map="whole"), "unknown map 'whole'"),
        (lambda: TokenCut(tau=1.0), "tau: expected a cosine"),
        (lambda: TokenCut(eps=0.0), "eps: expected a weight"),
        (lambda: DINOAttention(heads="first"), "heads: expected mean or the number"),
        (lambda: DINOAttention(mass=60), r"mass: expected a share in \(0, 1\]"),
        (lambda: DINOAttention(heads=2)(timm_vit(), torch.zeros(1, 3, 48, 48)), r"has the heads 0\.\.1"),
        (lambda: PatchPCA(fit_on="split"), "unknown fit_on 'split'"),
        (lambda: PatchPCA(sign="skew"), "unknown sign 'skew'"),
        (lambda: PatchPCA(state="runs/eval"), "only fit_on=dataset has statistics"),
        (lambda: PatchPCA("dataset", state="nowhere"), "no such file: nowhere"),
        (lambda: PatchPCA("dataset").fit(timm_vit(), []), "there is no image to fit on"),
        (lambda: PatchPCA("dataset").save("x"), "has no statistics"),
    ],
)
def test_bad_input_is_one_clear_message(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
