"""Linear SVMs against scikit-learn's own answers and a slow cross-validation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from wsol.errors import InputError
from wsol.features.svm import accuracies, fit, unit_length


def clouds(classes: list[int], each: int = 20, spread: float = 0.7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 (N, 6) around a centre for each class, of very different lengths, and labels."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(classes) + 1, 6))
    labels = np.repeat(classes, each)
    features = centres[labels] + spread * rng.normal(size=(len(labels), 6))
    return (features * rng.uniform(0.1, 10, (len(labels), 1))).astype(np.float32), labels


@pytest.mark.parametrize("classes", [[0, 1], [4, 2], [1, 3, 7, 8]])
@pytest.mark.parametrize("scale", [True, False])
def test_scores_are_those_of_scikit_learn(classes: list[int], scale: bool) -> None:
    features, labels = clouds(classes)
    mine = fit(features, labels, 0.5, scale=scale, seed=3)
    rows = features / np.linalg.norm(features, axis=1, keepdims=True) if scale else features
    theirs = LinearSVC(C=0.5, dual="auto", max_iter=1_000, random_state=3).fit(rows.astype(np.float64), labels)
    expected = theirs.decision_function(rows.astype(np.float64))
    if expected.ndim == 1:
        expected = np.stack([-expected, expected], 1)
    np.testing.assert_allclose(mine.scores(features), expected, rtol=1e-4, atol=1e-4)
    assert mine.labels.tolist() == sorted(classes)
    np.testing.assert_array_equal(mine.predict(features), theirs.predict(rows.astype(np.float64)))


def test_the_length_of_a_feature_does_not_matter_unless_asked() -> None:
    features, labels = clouds([0, 1, 2])
    longer = features * np.linspace(0.5, 20, len(features))[:, None]
    np.testing.assert_allclose(fit(features, labels).scores(features), fit(longer, labels).scores(longer), atol=1e-4)
    plain = fit(features, labels, scale=False)
    assert not np.allclose(plain.scores(features), plain.scores(longer))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_several_costs_the_best_in_cross_validation_is_taken(seed: int) -> None:
    features, labels = clouds([0, 1, 2], spread=1.2, seed=seed)
    costs = [10.0, 0.001, 0.1, 1.0]
    rows = unit_length(features)
    means = {}
    for cost in sorted(costs):
        shares = []
        for learn, evaluate in StratifiedKFold(5, shuffle=True, random_state=seed).split(rows, labels):
            svm = fit(features[learn], labels[learn], cost, seed=seed)
            shares.append((svm.predict(features[evaluate]) == labels[evaluate]).mean())
        means[cost] = np.mean(shares)
    assert len(set(means.values())) > 1, "the example must tell the costs apart"
    assert fit(features, labels, costs, seed=seed).c == max(means, key=lambda cost: means[cost])


def test_few_images_are_divided_in_fewer_parts() -> None:
    features, labels = clouds([0, 1], each=3)
    assert fit(features, labels, [0.1, 1]).c in (0.1, 1)


@pytest.mark.parametrize(
    ("cost", "change", "message"),
    [
        (0, {}, "C: expected a number above 0"),
        ([], {}, "C: expected a number above 0"),
        ([1, -1], {}, "C: expected a number above 0"),
        ("much", {}, "C: expected a number above 0"),
        (None, {}, "C: expected a number above 0"),
        (float("nan"), {}, "C: expected a number above 0"),
        (1, {"labels": np.zeros(6, int)}, "at least two classes, got 1"),
        (1, {"features": np.full((6, 2), np.nan)}, "features that are not finite"),
        ([1, 2], {"labels": np.array([0, 0, 0, 0, 0, 1])}, "every class needs 2 training images"),
    ],
)
def test_bad_input_is_one_clear_message(cost, change: dict, message: str) -> None:
    given = {"features": np.eye(6)[:, :2], "labels": np.array([0, 1] * 3)} | change
    with pytest.raises(InputError, match=message):
        fit(given["features"], given["labels"], cost)


def test_a_solver_that_does_not_arrive_is_mentioned(caplog: pytest.LogCaptureFixture, monkeypatch) -> None:
    monkeypatch.setattr("wsol.features.svm.STEPS", 1)
    features, labels = clouds([0, 1, 2], spread=3)
    with caplog.at_level("WARNING", "wsol"):
        fit(features, labels, 1e4)
    assert "did not converge within 1 steps" in caplog.text


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_accuracies_against_a_loop(pairs: list[tuple[int, int]]) -> None:
    predicted, labels = (np.array(column) for column in zip(*pairs, strict=True))
    found = accuracies(predicted, labels)
    assert found["accuracy"] == pytest.approx(100 * sum(p == t for p, t in pairs) / len(pairs))
    shares = [
        sum(p == t for p, t in pairs if t == label) / sum(t == label for _, t in pairs)
        for label in {t for _, t in pairs}
    ]
    assert found["mean_class_accuracy"] == pytest.approx(100 * sum(shares) / len(shares))
