"""Maps of each explainer against independent implementations and identities."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop as CaptumGuided
from torch import Tensor, nn

from tests.explain.networks import CLASSES, Plain, localizer, plain
from wsol.explain.bagcams import BagCAMs
from wsol.explain.base import eval_mode
from wsol.explain.cam import CAM
from wsol.explain.eigencam import EigenCAM
from wsol.explain.gradcam import GradCAM
from wsol.explain.gradcam_pp import GradCAMPlusPlus
from wsol.explain.guided_backprop import GuidedBackprop
from wsol.explain.guided_gradcam import GuidedGradCAM
from wsol.explain.integrated_gradients import IntegratedGradients
from wsol.explain.layercam import LayerCAM
from wsol.explain.occlusion import Occlusion
from wsol.explain.saliency import Saliency
from wsol.explain.scorecam import ScoreCAM
from wsol.explain.xgradcam import XGradCAM
from wsol.models.localizer import Localizer


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


@pytest.mark.parametrize("relu", ["guided", "plain"])
def test_bagcams_of_one_cell(relu: str) -> None:
    """With one cell the map is the sum of relu((g f + 1) g f) over the channels, g the gradient of log S."""
    torch.manual_seed(0)
    features, behind = nn.Conv2d(3, 4, 2), nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Flatten(), nn.Linear(6, 5))
    model, images = nn.Sequential(features, behind), torch.randn(4, 3, 2, 2)
    found = BagCAMs("0", relu=relu)(model, images, CLASSES)
    assert found.shape == (4, 2, 1, 1)
    weight, last = behind[0].weight.flatten(1), behind[3].weight
    with torch.no_grad():
        f = features(images).flatten(1)
        hidden = f @ weight.T + behind[0].bias
        logits = hidden.relu() @ last.T + behind[3].bias
        for n, m in [(n, m) for n in range(4) for m in range(2)]:
            slope = last[CLASSES[n, m]].clamp(min=0) if relu == "guided" else last[CLASSES[n, m]]
            g = ((slope * (hidden[n] > 0)) @ weight) / logits[n, CLASSES[n, m]]
            expected = ((g * f[n] + 1) * g * f[n]).clamp(min=0).sum()
            torch.testing.assert_close(found[n, m, 0, 0], expected, rtol=1e-4, atol=1e-6)


def test_bagcams_against_a_loop_over_cells(images: Tensor) -> None:
    model, features, slopes = features_and_slopes(images)
    with torch.no_grad():
        values = model(images).gather(1, CLASSES)
    products = slopes / values[..., None, None, None] * features
    expected = torch.zeros_like(products[:, :, 0])
    cells = [(y, x) for y in range(products.shape[3]) for x in range(products.shape[4])]
    for y, x in cells:
        bag = torch.stack([products[:, :, :, b, a] + 1 for b, a in cells]).mean(0)
        expected[:, :, y, x] = (bag * products[:, :, :, y, x]).relu().sum(2)
    torch.testing.assert_close(BagCAMs("relu", relu="plain")(model, images, CLASSES), expected, rtol=1e-4, atol=1e-6)


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
