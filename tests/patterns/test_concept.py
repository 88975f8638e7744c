"""Concept maps are class activation maps of the SVM; what is held out is drawn fairly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wsol.backbones.tiny import Tiny
from wsol.data.transforms import ResizeSquare
from wsol.engine.module import LocalizerModule
from wsol.errors import InputError
from wsol.features import svm
from wsol.features.extract import Extractor
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer
from wsol.patterns.concept import POSITIVE, classification_metrics, concept_maps, files_as_split, hold_out


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list:
    from PIL import Image

    rng = np.random.default_rng(0)
    made = []
    for i in range(8):
        made.append(tmp_path_factory.mktemp("images") / f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (30 + i, 40, 3), dtype=np.uint8)).save(made[-1])
    return made


@pytest.mark.parametrize("scale", [True, False])
def test_the_mean_of_a_concept_map_and_the_bias_are_the_score(files: list, scale: bool) -> None:
    """CAM's identity, with the SVM's weights in the place of a class's."""
    torch.manual_seed(0)
    extractor = Extractor(LocalizerModule(Localizer(Tiny(), GapHead, num_classes=2)), ResizeSquare(32), batch_size=3)
    split = files_as_split("examples", files, [1, 0] * 4)
    features = extractor.features(split)
    concept = svm.fit(features, split.labels, 10.0, scale=scale)
    expected = concept.scores(features)[:, POSITIVE]
    assert np.ptp(expected) > 1e-3
    means = torch.cat([concept_maps(seen, concept).mean((1, 2, 3)) for seen in extractor.extract(split)])
    np.testing.assert_allclose(means.numpy() + concept.bias[POSITIVE], expected, atol=1e-4)


def test_a_concept_that_is_a_class_has_that_class_s_map(files: list) -> None:
    extractor = Extractor(LocalizerModule(Localizer(Tiny(), GapHead, num_classes=3)), ResizeSquare(32))
    split = files_as_split("examples", files, [0] * 8)
    weight = extractor.module.localizer.head.classifier.weight.detach().double().numpy()
    as_class = svm.LinearSvm(weight[:2], np.zeros(2), np.arange(2), 1.0, unit_length=False)
    for seen in extractor.extract(split):
        own = extractor.module.localizer.maps(seen.output, torch.full((8, 1), POSITIVE))
        torch.testing.assert_close(concept_maps(seen, as_class)[:, 0], own.detach()[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("positives", "negatives", "share"), [(8, 4, 0.25), (2, 2, 0.1), (10, 30, 0.5)])
def test_the_same_share_of_both_is_held_out(positives: int, negatives: int, share: float) -> None:
    labels = np.array([1] * positives + [0] * negatives)
    held = hold_out(labels, share, seed=1)
    assert held[labels == 1].sum() == max(round(share * positives), 1)
    assert held[labels == 0].sum() == max(round(share * negatives), 1)
    assert (held == hold_out(labels, share, seed=1)).all()
    assert any((held != hold_out(labels, share, seed=seed)).any() for seed in range(2, 9))


@pytest.mark.parametrize(
    ("labels", "share", "message"),
    [
        ([1, 0, 0], 0.2, "positives: 1 images, 1 of them held out, leave none to learn from"),
        ([1, 1, 1, 0, 0], 0.8, "positives: 3 images, 2 of them|negatives: 2 images, 2 of them held out"),
        ([1, 1, 0, 0], 0.0, "held_out: expected a share strictly between 0 and 1"),
        ([1, 1, 0, 0], 1.0, "held_out: expected a share strictly between 0 and 1"),
    ],
)
def test_what_cannot_be_held_out(labels: list[int], share: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        hold_out(np.array(labels), share)


def test_average_precision_against_its_definition() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=40), rng.integers(0, 2, 40)
    order = labels[np.argsort(-scores)]
    precisions = [order[: i + 1].mean() for i in range(40) if order[i]]
    found = classification_metrics(scores, labels)
    assert found["average_precision"] == pytest.approx(100 * np.mean(precisions))
    assert found["accuracy"] == pytest.approx(100 * np.mean((scores > 0) == labels))
