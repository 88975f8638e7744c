"""Features are what the head reads; boxes are those of the maps, image by image."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from wsol.backbones.tiny import Tiny
from wsol.data.source import Split
from wsol.data.transforms import EvalTransform, ResizeSquare, TenCrop
from wsol.engine.module import LocalizerModule
from wsol.errors import InputError
from wsol.features.extract import Extractor, linear_maps
from wsol.functional.maps import merge
from wsol.heads.acol import AcolHead
from wsol.heads.gap import GapHead
from wsol.heads.spg import SpgHead
from wsol.models.localizer import Localizer
from wsol.protocols import protocol

SQUARE = ResizeSquare(32)


class Arrays(Split):
    """Images drawn at random, of several sizes."""

    def __init__(self, count: int = 7) -> None:
        rng = np.random.default_rng(1)
        self.images = [rng.integers(0, 256, (20 + 5 * i, 48 - 3 * i, 3), dtype=np.uint8) for i in range(count)]
        super().__init__("test", [str(i) for i in range(count)], np.arange(count) % 3)

    def _read_image(self, row: int) -> np.ndarray:
        return self.images[row]


def extractor(head=GapHead, transform: EvalTransform = SQUARE, **options) -> Extractor:
    torch.manual_seed(0)
    return Extractor(LocalizerModule(Localizer(Tiny(), head, num_classes=3)), transform, **options)


def direct(module: LocalizerModule, image: np.ndarray, transform: EvalTransform = SQUARE) -> tuple:
    """Input and output of one image."""
    with torch.no_grad():
        inputs, output, logits = module.scores(torch.from_numpy(transform(image).copy())[None])
    return inputs, output, logits


@pytest.mark.parametrize("head", [GapHead, partial(GapHead, conv_channels=12)], ids=["plain", "with a convolution"])
def test_the_classifier_on_the_features_gives_the_scores(head) -> None:
    mine = extractor(head)
    features = torch.from_numpy(mine.features(Arrays()))
    expected = torch.cat([direct(mine.module, image)[2] for image in Arrays().images])
    torch.testing.assert_close(mine.module.localizer.head.classifier(features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_no_batch_size_changes_a_feature(size: int) -> None:
    np.testing.assert_allclose(extractor(batch_size=size).features(Arrays()), extractor().features(Arrays()), atol=1e-6)


@pytest.mark.parametrize("point", ["conv2", "early", "last", "backbone.conv1", "backbone.conv1.1"])
def test_any_named_point(point: str) -> None:
    mine = extractor(point=point)
    names = dict(mine.module.localizer.named_modules())
    backbone = mine.module.localizer.backbone
    features = mine.features(Arrays())
    for image, row in zip(Arrays().images, features, strict=True):
        inputs, _, _ = direct(mine.module, image)
        seen: list[torch.Tensor] = []
        with torch.no_grad():
            if point in backbone.named_points:
                seen.append(backbone(inputs, taps=[point])[point])
            else:
                handle = names[point].register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out.clone()))
                backbone(inputs)
                handle.remove()
        np.testing.assert_allclose(row, seen[0][0].mean((1, 2)).numpy(), atol=1e-5)


@pytest.mark.parametrize("head", [partial(AcolHead, width=8), partial(SpgHead, width=8, b_width=4, c_width=4)])
def test_heads_that_pool_otherwise_give_the_last_features(head) -> None:
    mine = extractor(head)
    with torch.no_grad():
        expected = mine.module.localizer.backbone(direct(mine.module, Arrays().images[0])[0])["last"].mean((2, 3))
    np.testing.assert_allclose(mine.features(Arrays())[0], expected[0].numpy(), atol=1e-5)


def test_ten_crops_have_the_mean_of_their_features() -> None:
    crops = TenCrop(size=16, resize=20)
    mine = extractor(transform=crops)
    found = mine.features(Arrays())
    with torch.no_grad():
        for row, image in zip(found, Arrays().images, strict=True):
            inputs = mine.module.normalise(torch.from_numpy(crops(image).copy()))
            parts = [mine.module.localizer.backbone(one[None])["last"].mean((2, 3)) for one in inputs]
            np.testing.assert_allclose(row, torch.cat(parts).mean(0).numpy(), atol=1e-5)


@pytest.mark.parametrize("transform", [SQUARE, TenCrop(size=16, resize=20)], ids=["square", "ten crops"])
def test_boxes_are_those_of_the_maps(transform: EvalTransform) -> None:
    mine, rule = extractor(transform=transform, batch_size=3), protocol("cam2016")
    features, found = mine.features_and_boxes(Arrays(), mine.own_maps, rule)
    np.testing.assert_allclose(features, mine.features(Arrays()), atol=1e-6)
    one = extractor(transform=transform, batch_size=1)
    for box, image in zip(found, Arrays().images, strict=True):
        with torch.no_grad():
            pixels = torch.from_numpy(transform(image).copy())[None]
            _, maps = one.module.maps(pixels, lambda logits: logits.argmax(1)[:, None])
        seen, view = merge(maps[0, :, 0].numpy(), transform.views((image.shape[1], image.shape[0])))
        np.testing.assert_allclose(box, rule.predict(seen, view)[0], atol=1.01)
    assert not np.allclose(found, mine.features_and_boxes(Arrays(), mine.own_maps, rule, 0.9)[1])


def test_the_head_s_weights_make_the_head_s_maps() -> None:
    mine = extractor()
    weights = mine.module.localizer.head.classifier.weight.detach()
    for seen in mine.extract(Arrays()):
        by_weights = linear_maps(seen.cells, weights[seen.logits.argmax(1)])
        torch.testing.assert_close(by_weights, mine.own_maps(seen), rtol=1e-4, atol=1e-5)


def test_the_network_is_left_as_it_was() -> None:
    mine = extractor(point="conv2")
    before = {name: value.clone() for name, value in mine.module.state_dict().items()}
    mine.features(Arrays())
    assert not mine.module.localizer.edits
    assert all(torch.equal(value, before[name]) for name, value in mine.module.state_dict().items())
    assert not any(module._forward_hooks for module in mine.module.modules())


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ("conv9", "unknown layer 'conv9': did you mean"),
        ("head.classifier", r"expected a map .* got shape \(7, 3\)"),
    ],
)
def test_points_that_cannot_be(point: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        extractor(point=point).features(Arrays())
