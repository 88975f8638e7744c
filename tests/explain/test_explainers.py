"""All explainers: what every one promises, and what each must equal."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from captum.attr import GuidedBackprop as CaptumGuided
from torch import Tensor, nn

from wsol.backbones.timm import Timm
from wsol.backbones.tiny import Tiny
from wsol.config import build
from wsol.errors import InputError
from wsol.explain.base import Explainer, eval_mode
from wsol.explain.cam import CAM
from wsol.explain.eigencam import EigenCAM
from wsol.explain.gradcam import GradCAM
from wsol.explain.gradcam_pp import GradCAMPlusPlus
from wsol.explain.guided_backprop import GuidedBackprop
from wsol.explain.guided_gradcam import GuidedGradCAM
from wsol.explain.integrated_gradients import IntegratedGradients
from wsol.explain.layercam import LayerCAM
from wsol.explain.layers import LayerExplainer, last_map
from wsol.explain.occlusion import Occlusion
from wsol.explain.saliency import Saliency
from wsol.explain.scorecam import ScoreCAM
from wsol.explain.xgradcam import XGradCAM
from wsol.heads.acol import AcolHead
from wsol.heads.gap import GapHead
from wsol.heads.spg import SpgHead
from wsol.models.localizer import Localizer

CONFIGS = Path(__file__).parents[2] / "configs" / "explainer"
SMALL = {"occlusion": {"window": 8, "stride": 4}, "integrated": {"steps": 4}}
NAMES = sorted(file.stem for file in CONFIGS.glob("*.yaml"))


class Plain(nn.Module):
    """A classifier with what trips hooks: a reused in-place ReLU, a functional one, a sum in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.norm, self.relu, self.dropout = nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout()
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        first = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = self.relu(self.norm(self.conv2(first)))
        x = self.conv2(x)
        x += first
        return self.fc(self.dropout(self.relu(x).mean((2, 3))))


def plain() -> nn.Module:
    torch.manual_seed(0)
    return Plain()


def localizer(**options) -> Localizer:
    torch.manual_seed(0)
    backbone = Tiny(widths=(4, 4, 6, 8))
    return Localizer(backbone, GapHead(backbone.named_points, 5, **options), num_classes=5)


MODELS: dict[str, Callable[[], nn.Module]] = {"localizer": localizer, "plain": plain}


def made(name: str, **changes) -> Explainer:
    node = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) | SMALL.get(name, {}) | changes
    return build.instantiate(node, "explainer")


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


CLASSES = torch.tensor([[3, 0], [1, 1], [4, 2], [0, 3]])


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


# -- what each must equal ----------------------------------------------------------------------------------------------


def own_cam(model: Localizer, images: Tensor, classes: Tensor) -> Tensor:
    with torch.no_grad():
        output = model.eval()(images)
        return model.maps(output, classes)


@pytest.mark.parametrize("options", [{}, {"conv_channels": 6}])
def test_without_relu_gradcam_is_cam_over_the_feature_area(options: dict, images: Tensor) -> None:
    model = localizer(**options)
    cam = own_cam(model, images, CLASSES)
    area = cam.shape[2] * cam.shape[3]
    torch.testing.assert_close(GradCAM(relu=False)(model, images, CLASSES) * area, cam, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(GradCAM()(model, images, CLASSES) * area, cam.relu(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(CAM()(model, images, CLASSES), cam)


def test_cam_of_a_plain_classifier_is_that_of_the_localizer(images: Tensor) -> None:
    model = localizer()
    backbone = model.backbone
    layers = [backbone.get_submodule(path) for step in backbone._steps for path in step.modules]
    same = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.head.classifier)
    torch.testing.assert_close(CAM()(same, images, CLASSES), own_cam(model, images, CLASSES))


def test_planes_that_are_pooled_to_the_scores_are_the_maps(images: Tensor) -> None:
    """NIN and SqueezeNet: the classifier is a 1x1 convolution before the pooling."""
    model = localizer()
    backbone = model.backbone
    layers = [backbone.get_submodule(path) for step in backbone._steps for path in step.modules]
    width = backbone.points["last"].channels
    planes = nn.Sequential(*layers, nn.Dropout(), nn.Conv2d(width, model.num_classes, 1), nn.ReLU())
    same = nn.Sequential(planes, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    expected = torch.stack([planes(images)[i, asked] for i, asked in enumerate(CLASSES)])
    torch.testing.assert_close(CAM()(same, images, CLASSES), expected)
    after = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, 5, 1), nn.Flatten()).eval()
    weights = after[-2].weight.flatten(1)[CLASSES]
    features = nn.Sequential(*layers).eval()(images)
    torch.testing.assert_close(CAM()(after, images, CLASSES), torch.einsum("nchw,nmc->nmhw", features, weights))


def features_and_slopes(images: Tensor) -> tuple[nn.Module, Tensor, Tensor]:
    """Features A and dS/dA of the plain classifier's last ReLU, slowly: image by image, class by class."""
    model = plain().eval()
    features, slopes = [], []
    for image, classes in zip(images, CLASSES, strict=True):
        for label in classes:
            kept = {}
            handle = model.relu.register_forward_hook(lambda _m, _i, out, kept=kept: kept.update(out=out))
            score = model(image[None])[0, label]
            handle.remove()
            (slope,) = torch.autograd.grad(score, kept["out"])
            features.append(kept["out"].detach()[0])
            slopes.append(slope[0])
    return model, torch.stack(features).unflatten(0, (4, 2)), torch.stack(slopes).unflatten(0, (4, 2))


def test_the_gradient_family_against_plain_loops(images: Tensor) -> None:
    model, features, slopes = features_and_slopes(images)
    shape = features.shape[:2] + features.shape[3:]
    plus_plus, layer, x_grad = (torch.zeros(shape) for _ in range(3))
    for n, m in [(n, m) for n in range(4) for m in range(2)]:
        for a, g in zip(features[n, m].double(), slopes[n, m].double(), strict=True):
            alpha = torch.where(g != 0, g**2 / (2 * g**2 + (a * g**3).sum()), 0.0)
            weight = (alpha * g.clamp(min=0)).sum()
            plus_plus[n, m] += (weight * a).float()
            layer[n, m] += (g.clamp(min=0) * a).float()
            x_grad[n, m] += ((a * g).sum() / a.sum() * a).float() if a.sum() else 0.0
    loops = {GradCAMPlusPlus: plus_plus, LayerCAM: layer, XGradCAM: x_grad}
    for kind, maps in loops.items():
        found = kind("relu")(model, images, CLASSES)
        torch.testing.assert_close(found, maps.relu(), rtol=1e-3, atol=1e-6, msg=lambda text, k=kind: f"{k}: {text}")


def test_gradcam_plus_plus_as_the_paper_writes_it(images: Tensor) -> None:
    """The sum of A g^3 takes A of all cells and g^3 of the one; g is constant where scores are means."""
    model, features, slopes = features_and_slopes(images)
    g = slopes[..., :1, :1]
    weight = torch.where(g > 0, g * features.shape[-1] ** 2 / (2 + features.sum((-2, -1), keepdim=True) * g), 0.0)
    torch.testing.assert_close(
        GradCAMPlusPlus("relu")(model, images, CLASSES), (weight * features).sum(2).relu(), rtol=1e-3, atol=1e-6
    )


def test_eigencam_is_the_best_rank_one_fit(images: Tensor) -> None:
    model = localizer().eval()
    maps = EigenCAM("last")(model, images, CLASSES)
    for image, of_image in zip(images, maps, strict=True):
        cells = model.backbone(image[None])["last"][0].detach().flatten(1).T
        values, vectors = torch.linalg.eigh(cells.T @ cells)
        along = (cells @ vectors[:, -1]).view(of_image.shape[1:])
        along = along * along.sum().sign()
        for one in of_image:
            torch.testing.assert_close(one, along, rtol=1e-3, atol=1e-4)
        assert along.square().sum().item() == pytest.approx(values[-1].item(), rel=1e-3)


def test_scorecam_against_a_loop(images: Tensor) -> None:
    model = localizer().eval()
    found = ScoreCAM("last")(model, images, CLASSES)
    with torch.no_grad():
        for i, image in enumerate(images):
            features = model.backbone(image[None])["last"][0]
            for m, label in enumerate(CLASSES[i]):
                kept = []
                for feature in features:
                    mask = F.interpolate(feature[None, None], (16, 16), mode="bilinear")[0]
                    span = mask.max() - mask.min()
                    mask = (mask - mask.min()) / span if span > 0 else torch.zeros_like(mask)
                    kept.append(model((image * mask)[None]).logits[0, label] - model(0 * image[None]).logits[0, label])
                weights = torch.stack(kept).softmax(0)
                expected = (weights[:, None, None] * features).sum(0).relu()
                torch.testing.assert_close(found[i, m], expected, rtol=1e-4, atol=1e-5)


def test_gradient_against_differences() -> None:
    """In float64 a step of 1e-5 finds the slope of a piecewise linear network to many digits."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4, 5))
    images = torch.randn(1, 3, 4, 4)
    found = Saliency().attributions(model, images, torch.tensor([[2]]))[0, 0]
    exact, step = model.double(), 1e-6
    for c, y, x in [(c, y, x) for c in range(3) for y in range(4) for x in range(4)]:
        moved = images.double().repeat(2, 1, 1, 1)
        moved[0, c, y, x] += step
        moved[1, c, y, x] -= step
        high, low = exact(moved)[:, 2].tolist()
        assert found[c, y, x].item() == pytest.approx((high - low) / (2 * step), abs=1e-4)


def test_guided_backpropagation_is_captums_where_that_reaches(images: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5),
    )
    with eval_mode(model):
        found = GuidedBackprop().attributions(model, images, CLASSES)
    for m in range(2):
        with pytest.warns(UserWarning, match="backward hooks"):
            theirs = CaptumGuided(model).attribute(images.clone().requires_grad_(), target=CLASSES[:, m])
        torch.testing.assert_close(found[:, m], theirs.detach())
    assert not torch.allclose(found, Saliency().attributions(model, images, CLASSES))


def test_guided_backpropagation_sees_functional_and_reused_relus(images: Tensor) -> None:
    """Against a copy of the network whose ReLUs are written out with the rule of the paper."""

    class Rule(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, slope):
            (x,) = ctx.saved_tensors
            return slope * (x > 0) * (slope > 0)

    class Written(Plain):
        def forward(self, x: Tensor) -> Tensor:
            first = F.max_pool2d(Rule.apply(self.conv1(x)), 2)
            x = Rule.apply(self.norm(self.conv2(first)))
            return self.fc(Rule.apply(self.conv2(x) + first).mean((2, 3)))

    model = plain().eval()
    written = Written().eval()
    written.load_state_dict(model.state_dict())
    found = GuidedBackprop().attributions(model, images, CLASSES)
    torch.testing.assert_close(found, Saliency().attributions(written, images, CLASSES))


def test_guided_gradcam_is_the_product_of_its_parts(images: Tensor) -> None:
    model = localizer()
    coarse = F.interpolate(GradCAM()(model, images, CLASSES), (16, 16), mode="bilinear")
    fine = GuidedBackprop()(model, images, CLASSES)
    torch.testing.assert_close(GuidedGradCAM()(model, images, CLASSES), fine * coarse)


def test_integrated_gradients_sum_up_to_the_difference(images: Tensor) -> None:
    model = localizer().eval()
    found = IntegratedGradients(steps=200).attributions(model, images, CLASSES)
    with torch.no_grad():
        gain = (model(images).logits - model(0 * images).logits).gather(1, CLASSES)
    torch.testing.assert_close(found.sum((2, 3, 4)), gain, rtol=0.01, atol=0.01)


@pytest.mark.parametrize(("window", "stride"), [(4, 4), (5, 3), (8, 1), (16, 16), (7, 6)])
def test_occlusion_against_a_slow_loop(window: int, stride: int, images: Tensor) -> None:
    model = plain().eval()
    images, classes = images[:2], CLASSES[:2]
    found = Occlusion(window, stride)(model, images, classes)
    starts = list(range(0, 16 - window, stride)) + ([16 - window] if (16 - window) % stride == 0 else [])
    if starts[-1] + window < 16:
        starts.append(starts[-1] + stride)
    for i, m in [(i, m) for i in range(2) for m in range(2)]:
        total, count = torch.zeros(16, 16), torch.zeros(16, 16)
        for y in starts:
            for x in starts:
                hidden = images[i].clone()
                hidden[:, y : y + window, x : x + window] = 0
                with torch.no_grad():
                    whole, without = model(torch.stack([images[i], hidden]))[:, classes[i, m]]
                total[y : y + window, x : x + window] += whole - without
                count[y : y + window, x : x + window] += 1
        torch.testing.assert_close(found[i, m], total / count, rtol=1e-4, atol=1e-5)


# -- layers ------------------------------------------------------------------------------------------------------------


def test_the_last_map_is_found() -> None:
    image = torch.randn(1, 3, 16, 16)
    assert last_map(plain().eval(), image) == "relu"
    assert last_map(localizer().eval(), image) == "head.conv"


def test_points_and_modules_name_the_same_layer(images: Tensor) -> None:
    model = localizer()
    for point, module in (("conv4", "backbone.conv4"), ("mid", "backbone.conv3"), ("last", "backbone.conv4")):
        torch.testing.assert_close(
            LayerCAM(point)(model, images, CLASSES), LayerCAM(module)(model, images, CLASSES), msg=point
        )


def test_points_of_a_timm_network_can_be_read(images: Tensor) -> None:
    torch.manual_seed(0)
    backbone = Timm("resnet10t")
    model = Localizer(backbone, GapHead(backbone.named_points, 5), num_classes=5)
    larger = F.interpolate(images, 64)
    for point in ("layer2", "late"):
        module = {"layer2": "layer2", "late": "layer4"}[point]
        torch.testing.assert_close(
            LayerCAM(point)(model, larger, CLASSES), LayerCAM(f"backbone.network.{module}")(model, larger, CLASSES)
        )
    assert len(model.edits) == 0


@pytest.mark.parametrize("kind", [AcolHead, SpgHead])
def test_other_heads_are_explained_at_what_their_scores_are_made_of(kind: type, images: Tensor) -> None:
    torch.manual_seed(0)
    backbone = Tiny(widths=(4, 4, 6, 8))
    model = Localizer(backbone, kind(backbone.named_points, 5, width=6), num_classes=5).eval()
    state = model(images).state
    features, branch = state.get("hidden", state.get("a")), getattr(model.head, "branch", None)
    branch = branch or model.head.branches["a"]
    planes = branch.class_maps(features, CLASSES) / (features.shape[2] * features.shape[3])
    torch.testing.assert_close(GradCAM(relu=False)(model, images, CLASSES), planes.detach(), rtol=1e-4, atol=1e-6)


def test_a_point_is_read_behind_the_edit_there(images: Tensor) -> None:
    class Double(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    plain_one, torch_state = localizer(), localizer().state_dict()
    backbone = Tiny(widths=(4, 4, 6, 8))
    edited = Localizer(backbone, GapHead(backbone.named_points, 5), num_classes=5, edits={"late": Double()})
    edited.load_state_dict(torch_state)
    twice = EigenCAM("last")(edited, images, CLASSES)
    torch.testing.assert_close(twice, 2 * EigenCAM("last")(plain_one, images, CLASSES))
    assert isinstance(edited.edits["late"], Double)


@pytest.mark.parametrize("name", [name for name in NAMES if isinstance(made(name), LayerExplainer)])
def test_an_unknown_layer_names_those_there_are(name: str, images: Tensor) -> None:
    with pytest.raises(InputError, match="unknown layer 'conv9': did you mean 'conv2', 'conv1'"):
        made(name, layer="conv9")(plain(), images, CLASSES)
    if name != "cam":
        with pytest.raises(InputError, match=r"unknown layer 'conv5'.*head\.conv.*mid"):
            made(name, layer="conv5")(localizer(), images, CLASSES)


def test_a_layer_that_cannot_be_used_is_refused(images: Tensor) -> None:
    model = plain()
    model.spare = nn.Conv2d(3, 3, 1)
    with pytest.raises(InputError, match="'spare' does not run"):
        GradCAM("spare")(model, images, CLASSES)
    with pytest.raises(InputError, match=r"layer 'fc': expected nchw, got the shape \(4, 5\)"):
        GradCAM("fc")(model, images, CLASSES)
    with pytest.raises(InputError, match="neither the means of 'conv1' nor linear on them"):
        CAM("conv1")(model, images, CLASSES)
    with pytest.raises(InputError, match="makes its own CAM"):
        CAM("last")(localizer(), images, CLASSES)


class Tokens(nn.Module):
    """A little ViT, or a Swin: cells with channels at the end, and without maps near the scores."""

    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.flat = flat
        self.embed, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).permute(0, 2, 3, 1)
        if self.flat:
            x = torch.cat([self.token.expand(len(x), -1, -1), x.flatten(1, 2)], 1)
            return self.fc(self.blocks(x).mean(1))
        return self.fc(self.blocks(x).mean((1, 2)))


@pytest.mark.parametrize(("layout", "flat"), [("tokens", True), ("nhwc", False)])
def test_transformers_name_layer_and_layout(layout: str, flat: bool, images: Tensor) -> None:
    torch.manual_seed(0)
    model = Tokens(flat)
    with pytest.raises(InputError, match="name one and its layout"):
        GradCAM()(model, images, CLASSES)
    maps = GradCAM("blocks", layout, relu=False)(model, images, CLASSES)
    features = model.blocks(
        torch.cat([model.token.expand(4, -1, -1), model.embed(images).flatten(2).transpose(1, 2)], 1)
    )[:, 1:]
    share = 1 / (17 if flat else 16)
    expected = torch.einsum("nlc,nmc->nml", features, model.fc.weight[CLASSES]).unflatten(2, (4, 4)) * share
    torch.testing.assert_close(maps, expected.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradCAM(layout="nwhc"), "did you mean 'nhwc'"),
        (lambda: GradCAM(layout="tokens"), "name the layer, too"),
        (lambda: Saliency(chunk_size=0), "chunk_size: expected a number"),
        (lambda: Occlusion(window=4, stride=5), "1 <= stride <= window"),
        (lambda: IntegratedGradients(steps=0), "steps: expected"),
        (lambda: Occlusion(window=17, stride=8)(plain(), torch.zeros(1, 3, 16, 16), CLASSES[:1]), "take a smaller one"),
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
