"""The rules of protocols since 2020, each against a loop of its own."""

import dataclasses

import cv2
import numpy as np
import pytest

from tests.test_protocols import NAMES, blob, choe2020, shipped  # noqa: F401  # fixtures
from wsol import protocols
from wsol.errors import InputError
from wsol.functional.geometry import Geometry
from wsol.metrics import localization_error
from wsol.metrics._box_accuracy import BoxAccuracy
from wsol.types import GroundTruth


def overlap_with_ends(a, b):
    """Overlap of two boxes whose ends name their last pixels."""
    w, h = (max(min(a[k + 2], b[k + 2]) - max(a[k], b[k]) + 1, 0) for k in (0, 1))
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return w * h / (sum(areas) - w * h)


def largest_contour_box(binary):
    """The box with its ends one past the blob."""
    found = cv2.findContours(binary.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
    x, y, w, h = cv2.boundingRect(max(found, key=cv2.contourArea))
    return [x, y, x + w, y + h]


def flooded(binary, y, x):
    """The 4-connected pixels around one, as x0, y0, x1, y1 one past."""
    left = {(int(r), int(c)) for r, c in zip(*np.nonzero(binary), strict=True)}
    stack, region = [(y, x)], []
    left.discard((y, x))
    while stack:
        r, c = stack.pop()
        region.append((r, c))
        for near in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
            if near in left:
                left.discard(near)
                stack.append(near)
    rows, columns = zip(*region, strict=True)
    return [min(columns), min(rows), max(columns) + 1, max(rows) + 1]


@pytest.mark.parametrize("seed", range(4))
def test_rethinking2020_takes_35_percent_of_the_90th_percentile(seed):
    rules = protocols.protocol("rethinking2020")
    score_map, view = blob(np.random.default_rng(seed)), Geometry.crop((256, 256), 256, 224)
    cam = cv2.resize(score_map.astype(np.float64), (224, 224), interpolation=cv2.INTER_CUBIC)
    grey = ((cam - cam.min()) / (cam.max() - cam.min()) * 255).astype(np.uint8)
    expected = largest_contour_box(grey > int(0.35 * np.percentile(grey, 90)))
    assert np.array(rules.predict(score_map, view)[0] - 16).tolist() == expected


@pytest.mark.parametrize("seed", range(4))
def test_tokencut2022_takes_the_peaks_component_above_the_mean(seed):
    rules = protocols.protocol("tokencut2022")
    vector = blob(np.random.default_rng(seed), (6, 8))
    view = Geometry((128, 96), (128, 96), (0, 0), (128, 96))
    y, x = np.unravel_index(vector.argmax(), vector.shape)
    cells = np.array(flooded(vector > vector.astype(np.float64).mean(), int(y), int(x))) * 16
    assert rules.predict(vector, view)[0].tolist() == cells.tolist()
    for end in (-1.0, 0.0):
        true = np.array([[10.4, 20.7, 70.5, 80.2]])
        inclusive = end == -1.0
        x0, y0, x1, y1 = (int(v) for v in true[0] + [0, 0, 0 if inclusive else -1, 0 if inclusive else -1])
        expected = overlap_with_ends(cells.tolist(), [x0, y0, x1, y1]) >= 0.5
        at = list(rules.thresholds).index(1.0)
        assert rules.evaluate(vector, view, GroundTruth(true, inclusive))[0, at] == expected


@pytest.mark.parametrize("seed", range(4))
def test_sat2023_scales_cells_and_compares_values(seed):
    rules = protocols.protocol("sat2023")
    score_map, view = blob(np.random.default_rng(seed)), Geometry.crop((256, 256), 256, 224)
    scaled = (score_map - score_map.min()).astype(np.float64) / float(score_map.max() - score_map.min())
    large = cv2.resize(scaled, (224, 224), interpolation=cv2.INTER_LINEAR)
    _, _, stats, _ = cv2.connectedComponentsWithStats((large > 0.4).astype(np.uint8), connectivity=8)
    x, y, w, h, _ = stats[1 + stats[1:, 4].argmax()]
    assert np.array(rules.predict(score_map, view)[0] - 16).tolist() == [x, y, x + w, y + h]
    true = [5.5, 30.0, 180.9, 250.0]  # in the stored image; the crop is 16 pixels away on each side
    framed = [min(max(int(v - 16), 0), 223) for v in true]
    expected = overlap_with_ends([x, y, x + w, y + h], framed) >= 0.5
    found = rules.evaluate(score_map, view, GroundTruth(np.array([true]), inclusive=True))
    assert found[0, list(rules.thresholds).index(0.4)] == expected


@pytest.mark.parametrize("seed", range(4))
def test_c2am2022_boxes_cells_of_the_map_itself(seed):
    rules = protocols.protocol("c2am2022")
    rng = np.random.default_rng(seed)
    score_map = (blob(rng, (28, 28)) * 0.8 + 0.1).clip(0, 1).astype(np.float32)
    grey = (score_map * 255).astype(np.uint8)
    view, scale = Geometry((600, 400), (480, 480), (16, 16), (448, 448)), np.array([480 / 600, 480 / 400] * 2)
    x0, y0, x1, y1 = 16.0 * np.array(largest_contour_box(grey > 0.5 * grey.max())) + [4, 3, -9, -2]
    true = (np.array([[x0, y0, x1, y1]]) + 16) / scale
    expected = []
    for threshold in [(i + 1) / 20 for i in range(19)]:
        box = largest_contour_box(grey > int(threshold * grey.max()))
        a0, b0, a1, b1 = (16 * min(value, 27) for value in box)
        shared = max(min(a1, x1) - max(a0, x0), 0) * max(min(b1, y1) - max(b0, y0), 0)
        expected.append(shared / ((a1 - a0) * (b1 - b0) + (x1 - x0) * (y1 - y0) - shared) > 0.5)
    assert rules.evaluate(score_map, view, GroundTruth(true, inclusive=False))[0].tolist() == expected
    assert len(set(expected)) == 2


@pytest.mark.parametrize("seed", range(3))
def test_calm2021_cuts_probabilities_at_powers_of_ten(seed):
    rules = dataclasses.replace(protocols.protocol("calm2021"), threshold_step=0.5, iou_thresholds=(0.3,))
    assert rules.thresholds == pytest.approx(10.0 ** np.arange(-7, -0.1, 0.5), rel=1e-12)
    rng = np.random.default_rng(seed)
    score_map = np.exp(blob(rng) * 8.0 - 8.0).clip(0, 1)
    large = cv2.resize(score_map.astype(np.float64), (224, 224), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    truth = [40, 50, 150, 180]
    expected = []
    for threshold in rules.thresholds:
        found = cv2.findContours((large > threshold).astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
        boxes = [cv2.boundingRect(contour) for contour in found]
        ends = [[x, y, min(x + w, 223), min(y + h, 223)] for x, y, w, h in boxes] or [[0, 0, 0, 0]]
        expected.append(any(overlap_with_ends(end, truth) >= 0.3 for end in ends))
    view = Geometry.square((224, 224), 224)
    assert rules.evaluate(score_map, view, GroundTruth(np.array([truth], float), True))[0].tolist() == expected


def test_ivr2021_is_maxboxaccv2_of_maps_that_were_scaled_before(shipped):  # noqa: F811
    rules = dataclasses.replace(protocols.protocol("ivr2021"), threshold_step=0.02)
    score_map = blob(np.random.default_rng(1))
    large = cv2.resize(score_map.astype(np.float64), (224, 224), interpolation=cv2.INTER_CUBIC)
    ivr = np.maximum(large - np.quantile(large, 0.45), 0)
    view, truth = Geometry.square((100, 80), 224), GroundTruth(np.array([[20.0, 10.0, 70.0, 60.0]]), inclusive=True)
    other = dataclasses.replace(protocols.protocol("choe2020-v2"), threshold_step=0.02)
    expected = other.evaluate(ivr / ivr.max(), view, truth)
    assert expected.any()
    assert rules.evaluate(score_map, view, truth).tolist() == expected.tolist()


def test_top_k_errors_ask_for_more_than_half_where_gt_known_asks_for_half():
    """TS-CAM: an overlap of exactly 0.5 counts for GT-known and for no top-k error."""
    rules = dataclasses.replace(protocols.protocol("tscam2021"), frame="input", predicted_end="last_pixel")
    score_map = np.zeros((20, 20), np.float32)
    score_map[5:15, 5:15] = 1.0
    view = Geometry.square((20, 20), 20)
    half = GroundTruth(np.array([[5.0, 5.0, 14.0, 9.0]]), inclusive=True)
    more = GroundTruth(np.array([[5.0, 5.0, 14.0, 10.0]]), inclusive=True)
    assert rules.evaluate(score_map, view, half).tolist() == [[True], [False]]
    assert rules.evaluate(score_map, view, more).tolist() == [[True], [True]]
    metric = BoxAccuracy.from_protocol(rules, (1,))
    metric.update(np.stack([rules.evaluate(score_map, view, t) for t in (half, more)]), [0, 1], ranks=[0, 0])
    assert metric.compute().gt_known.tolist() == [[100.0]]
    assert metric.compute().accuracy("top1").tolist() == [[50.0]]
    logits, labels = np.array([[1.0, 0.0]] * 2), [0, 0]
    found = localization_error(
        [score_map] * 2,
        [half.boxes, more.boxes],
        protocol=rules,
        topk=(1,),
        logits=logits,
        labels=labels,
        inclusive=True,
    )
    assert {key: float(value) for key, value in found.items()} == {"gt_known_error": 0.0, "top1_error": 50.0}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"scaling": "quantiles", "quantiles": (0.9, 0.2)},
            "expected 0 <= low < high <= 1",
        ),
        ({"quantiles": (0.4, 1.0)}, "only scaling: quantiles uses them"),
        ({"boundary_topk": "more"}, "boundary_topk of protocol 'choe2020'"),
        ({"threshold_quantile": 0.0}, r"expected a number in \(0, 1\]"),
        ({"threshold_spacing": "log"}, "expected 1e-30 <= low"),
        ({"threshold_of": "mean"}, "at most 255 thresholds"),
        ({"interpolation": "nearby"}, "nearest"),
    ],
)
def test_fields_of_later_papers_are_checked(choe2020, changes, match):  # noqa: F811
    with pytest.raises(InputError, match=match):
        dataclasses.replace(choe2020, **changes)
