import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from wsol.errors import InputError
from wsol.functional import bootstrap
from wsol.functional.bootstrap import interval, paired_difference

some_values = st.lists(st.sampled_from([0.0, 1 / 3, 1.0, -2.5]), min_size=1, max_size=30).map(np.array)


def plain(values, labels, draws, seed=1):
    """The interval as a textbook has it: images are drawn one by one, classes are looked up by name."""
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(draws):
        drawn = rng.choice(len(values), len(values))
        if labels is None:
            means.append(values[drawn].mean())
        else:
            by_class = {}
            for i in drawn:
                by_class.setdefault(int(labels[i]), []).append(values[i])
            means.append(np.mean([np.mean(of) for of in by_class.values()]))
    return np.quantile(means, [0.025, 0.975]), np.std(means)


@pytest.mark.parametrize("distinct", [2, 4, 200])
@pytest.mark.parametrize("classes", [None, 9])
def test_equals_a_plain_loop(distinct, classes):
    """The 2.5 % quantile of 3,000 normal draws has a standard error of 0.05 standard deviations."""
    rng = np.random.default_rng(distinct)
    values = rng.integers(0, distinct, 200) ** 2 / distinct
    labels = None
    if classes:  # of very different sizes, the last ones of a single image, which most draws lack or have twice
        labels = np.append(rng.choice(classes - 3, 197, p=np.arange(1, classes - 2) / 21), [6, 7, 8])
        values = values + labels
    expected, deviation = plain(values, labels, 3000)
    found = interval(values, labels)
    assert np.abs(found - expected).max() < 0.25 * deviation
    assert found[1] - found[0] > 3 * deviation


@pytest.mark.parametrize("images", [40, 1000])
def test_means_of_zeros_and_ones_are_binomial(images):
    values = np.arange(images) < 0.3 * images
    low, high = interval(values)
    expected = stats.binom.ppf([0.025, 0.975], images, 0.3) / images
    assert np.abs([low, high] - expected).max() <= 2 / images


def test_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [interval(rng.random(200) < 0.7, draws=1000, seed=i, level=0.9) for i in range(400)]
    covered = np.mean([low <= 0.7 <= high for low, high in found])
    assert 0.85 < covered < 0.94


@pytest.mark.parametrize("distinct", [2, 500])
@pytest.mark.parametrize("classes", [1, 7])
def test_the_seed_alone_decides(distinct, classes, monkeypatch):
    rng = np.random.default_rng(5)
    values, labels = rng.integers(0, distinct, 600).astype(float), rng.integers(0, classes, 600)
    first = interval(values, labels, draws=500)
    order = rng.permutation(600)
    assert interval(values[order], labels[order], draws=500) == first
    assert interval(values, labels, draws=500, seed=1) != first
    monkeypatch.setattr(bootstrap, "_CHUNK", 1900)
    assert interval(values, labels, draws=500) == pytest.approx(first, rel=1e-12)


def test_both_ways_of_drawing_agree(monkeypatch):
    values = np.repeat([0.0, 1.0, 5.0], [300, 500, 200])
    by_kinds = np.array(interval(values))
    monkeypatch.setattr(bootstrap, "_MULTINOMIAL_COST", 10**9)
    by_images = np.array(interval(values))
    assert (by_kinds != by_images).any()
    assert np.abs(by_kinds - by_images).max() < 0.01 * values.std()


@given(some_values, st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_lies_within_the_values_and_follows_them(values, seed):
    low, high = interval(values, draws=50, seed=seed)
    assert values.min() - 1e-12 <= low <= high <= values.max() + 1e-12
    assert np.allclose(interval(2 * values + 3, draws=50, seed=seed), (2 * low + 3, 2 * high + 3))
    assert np.allclose(interval(values, np.full(len(values), 4), draws=50, seed=seed), (low, high))
    wider = interval(values, draws=50, seed=seed, level=0.99)
    assert wider[0] <= low <= high <= wider[1]


def test_columns_are_means_of_the_same_draws():
    rng = np.random.default_rng(2)
    values = (rng.random((300, 3)) < [0.2, 0.5, 0.8]).astype(float)
    values[:, 2] = values[:, 0] * 10
    labels = rng.integers(0, 5, 300)
    for of in (None, labels):
        low, high = interval(values, of)
        assert low.shape == high.shape == (3,)
        assert np.allclose([low[2], high[2]], [10 * low[0], 10 * high[0]])
        assert np.allclose([low[1], high[1]], interval(values[:, 1], of), atol=0.01)


def test_pairing_narrows_the_interval_of_correlated_errors():
    rng = np.random.default_rng(3)
    hard = rng.random(1000)
    a, b = (hard > 0.5).astype(float), (hard + rng.normal(0, 0.03, 1000) > 0.52).astype(float)
    found = paired_difference(a, b)
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert found.low < found.mean < found.high
    apart = np.hypot(*(high - low for low, high in (interval(a), interval(b))))
    assert found.high - found.low < 0.6 * apart


def test_the_paired_mean_is_that_over_classes():
    a, b, labels = np.array([1.0, 0, 0, 0]), np.array([0.0, 0, 0, 1]), np.array([0, 1, 1, 1])
    assert paired_difference(a, b, labels).mean == pytest.approx((1 - 1 / 3) / 2)
    assert paired_difference(a, a, labels)[1:] == (0, 0)


def test_nothing_is_nan():
    assert np.isnan(interval([])).all()
    assert np.isnan(interval(np.zeros((0, 2)), [])).tolist() == [[True, True]] * 2
    assert np.isnan(paired_difference([], [])).all()


def test_fifty_thousand_images_take_well_under_a_second():
    right = np.random.default_rng(0).random((50_000, 2)) < 0.6
    start = time.perf_counter()
    interval(right)
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1.0, 0.0], [0]), {}, "one label for each of 2 images"),
        (([1.0],), {"level": 95}, "such as 0.95, got 95"),
        (([1.0],), {"draws": 0}, "at least 1, got 0"),
    ],
)
def test_says_what_is_wrong(arguments, options, message):
    with pytest.raises(InputError, match=message):
        interval(*arguments, **options)
    with pytest.raises(InputError, match="two values per image"):
        paired_difference([1.0, 2.0], [1.0])
