"""What is measured on a split: against plain loops over images, and against what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.marked import CLASSES, PROTOCOLS, Case, Marked, batch, plain
from wsol.data.source import Split
from wsol.data.transforms import ResizeCrop, ResizeSquare, TenCrop
from wsol.engine.chunk_evaluator import framed_mask
from wsol.engine.evaluation import LOCALIZER, SplitEvaluation
from wsol.engine.localization_table import localization_table
from wsol.errors import InputError
from wsol.functional.baselines import centre_boxes, centre_gaussian, whole_image
from wsol.functional.geometry import Geometry
from wsol.functional.maps import merge, place
from wsol.metrics._baselines import BASELINES, Baselines
from wsol.protocols import LocalizationProtocol
from wsol.types import Picture

CAM, CHOE = {"cam2016": PROTOCOLS["cam2016"]}, {"choe2020": PROTOCOLS["choe2020"]}


pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")


# -- the reference: loops over images and thresholds -----------------------------------------------------------------


def in_first(scores: np.ndarray, label: int, k: int) -> bool:
    return label in sorted(range(len(scores)), key=lambda c: (-scores[c], c))[:k]


def mean_of(bits: list[np.ndarray], labels: list[int], protocol: LocalizationProtocol) -> np.ndarray:
    """Percent over images, or over classes."""
    if protocol.average == "image":
        return sum(b.astype(int) for b in bits) * 100.0 / len(bits)
    of = {label: [b for b, own in zip(bits, labels, strict=True) if own == label] for label in sorted(set(labels))}
    return np.mean([sum(b.astype(int) for b in some) / len(some) for some in of.values()], axis=0) * 100.0


def guessed_right(bits: np.ndarray, case: Case, i: int, guesses) -> np.ndarray:
    """Hits (I, G) of a top-k error; boxes of several ranks stand in the columns."""
    ranked = sorted(range(CLASSES), key=lambda c: (-case.logits[i].numpy()[c], c))
    right = np.zeros_like(bits)
    for rank, column in guesses:
        if rank < CLASSES and ranked[rank] == case.labels[i]:
            right |= bits if all(c == 0 for _, c in guesses) else bits[:, [column]]
    return right


def of_one(blind: Baselines, view, truth) -> dict[str, np.ndarray]:
    """Whether the baselines are correct on one image, bool (I, G), by the slow path."""
    size, evaluated_by = view.image_size, blind.protocol
    return {
        "whole image": evaluated_by.evaluate_boxes(whole_image(size), view, truth),
        "centre box": evaluated_by.evaluate_boxes(centre_boxes(size), view, truth),
        "centre gaussian": evaluated_by.evaluate(centre_gaussian(view.input_size), view, truth),
    }


def reference_curves(case: Case, views, protocol: LocalizationProtocol, topk: tuple[int, ...]) -> dict:
    """By whose maps: number of images, and accuracy by name."""
    blind = Baselines(protocol)
    found: dict[str, list[tuple[np.ndarray, int]]] = {}
    for i, size in enumerate(case.sizes):
        truth = case.split.truth(i)
        if truth is None:
            continue
        score_map, view = merge(case.maps[i], views(size), merging=protocol.view_merging)
        right = {LOCALIZER: protocol.evaluate(score_map, view, truth), **of_one(blind, view, truth)}
        for name, bits in right.items():
            found.setdefault(name, []).append((bits, i))
    curves = {}
    for name, images in found.items():
        of = [case.labels[i] for _, i in images]
        overlaps = len(protocol.iou_thresholds)  # with a boundary of its own, top-k has as many rows more
        accuracy = {"gt_known": mean_of([bits[:overlaps] for bits, _ in images], of, protocol)}
        for k in topk if name == LOCALIZER else ():
            guessed = [guessed_right(bits[-overlaps:], case, i, protocol.top_guesses(k)) for bits, i in images]
            accuracy[f"top{k}"] = mean_of(guessed, of, protocol)
        curves[name] = (len(images), {of: values.tolist() for of, values in accuracy.items()})
    return curves


def reference_pxap(case: Case, views) -> float:
    """Thresholds outermost, all pixels of all images thrown together."""
    scores, wanted = [], []
    for i, size in enumerate(case.sizes):
        mask = case.split.mask(i)
        if mask is None:
            continue
        placed = place(*merge(case.maps[i], views(size)), Geometry.square(size, 224))
        for y in range(224):
            for x in range(224):
                column, row = x * size[0] // 224, y * size[1] // 224
                if mask[row, column] != 255:
                    scores.append(placed[y, x])
                    wanted.append(mask[row, column] == 1)
    score, is_object = np.array(scores), np.array(wanted)
    area, recall_above = 0.0, 0.0
    for threshold in [1.0, *np.arange(0, 1, 0.001)[::-1]]:
        above = score >= threshold
        if above.any():
            recall = (above & is_object).sum() / is_object.sum()
            area += (above & is_object).sum() / above.sum() * (recall - recall_above)
            recall_above = recall
    return 100 * area


TRANSFORMS = {"whole": (ResizeSquare(24), 1), "crop": (ResizeCrop(24, 28), 1), "ten crops": (TenCrop(24, 28), 10)}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_equals_loops_over_images(transform: str) -> None:
    chosen, views = TRANSFORMS[transform]
    case = Case(9, views=views)
    evaluation = SplitEvaluation(case.split, chosen.views, PROTOCOLS, topk=(1, 3), baselines=True)
    measured = case.feed(evaluation, range(9), 4).compute()
    for k in (1, 3):
        wrong = sum(not in_first(case.logits[i].numpy(), case.labels[i], k) for i in range(9))
        assert measured.classification[f"top{k}_error"] == pytest.approx(100 * wrong / 9)
    assert measured.pixels["PxAP"] == pytest.approx(reference_pxap(case, chosen.views), abs=1e-9)
    for name, protocol in PROTOCOLS.items():
        expected = reference_curves(case, chosen.views, protocol, (1, 3))
        found = {maps: value for (of, maps), value in plain(measured)["curves"].items() if of == name}
        assert list(found) == [LOCALIZER, *BASELINES]
        assert found == expected, name


def test_batches_and_order_change_no_digit() -> None:
    case = Case(12)
    shuffled = np.random.default_rng(1).permutation(12).tolist()

    def measured(positions, size):
        evaluation = SplitEvaluation(case.split, ResizeCrop(24, 28).views, PROTOCOLS, baselines=True)
        return plain(case.feed(evaluation, positions, size).compute())

    whole = measured(range(12), 12)
    for size in (1, 5, 11):
        assert measured(range(12), size) == whole
        assert measured([*shuffled, 3, 7], size) == whole  # images that come twice count once


@pytest.mark.parametrize("left", [True, False])
def test_ten_crops_align_with_the_object_mirrored_ones_too(left: bool) -> None:
    size, transform = (48, 36), TenCrop(24, 28)
    box = [6, 8, 22, 26] if left else [27, 8, 43, 26]
    image = np.zeros((36, 48, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    views = transform(image)[:, 0].reshape(10, 12, 2, 12, 2).mean((2, 4)).astype(np.float32)  # stride 2
    split = Marked([size], [0], [[box]])
    scaled = {name: protocol for name, protocol in PROTOCOLS.items() if protocol.scaling != "clip"}  # of probabilities
    evaluation = SplitEvaluation(split, transform.views, scaled, topk=(1,), pictures=1)
    evaluation.update(batch(split, [0]), torch.eye(CLASSES)[:1], views[None])
    values = evaluation.scalars()
    assert set(values.values()) == {0.0}, values
    (picture,) = evaluation.pictures(evaluation.compute())
    assert picture.iou > 0.7
    assert np.abs(picture.predicted_box - box).max() <= 4  # at 20 % of the maximum a cell of 2 input pixels spreads


def test_images_without_truth_are_left_out_and_counted() -> None:
    case = Case(10)
    without = [i for i in range(10) if case.split.truth(i) is None]
    assert without == [3, 8]
    evaluation = SplitEvaluation(case.split, ResizeSquare(24).views, CAM, baselines=True)
    measured = case.feed(evaluation, range(10), 4).compute()
    assert {curve.images for curve in measured.curves["cam2016"].values()} == {8}
    rows = localization_table({"test": measured}, {"test": evaluation}, "test")
    assert {row["images"] for row in rows} == {8}
    assert len(evaluation.classes.rows()["index"]) == 10
    assert evaluation.pixels is not None
    assert sorted(evaluation.pixels.rows()["index"].tolist()) == [0, 1, 3, 4, 5, 7, 8, 9]


def test_a_batch_of_unmarked_images_alone() -> None:
    case = Case(10)
    evaluation = case.feed(SplitEvaluation(case.split, ResizeSquare(24).views, CAM), [3, 8], 2)
    assert evaluation.compute().curves["cam2016"][LOCALIZER].images == 0


def test_unreadable_images_are_listed_by_name() -> None:
    case = Case(6)
    evaluation = SplitEvaluation(case.split, ResizeSquare(24).views, CAM)
    case.feed(evaluation, [0, 1, 4], 3)
    for skipped in ([5], [], [2, 3]):
        evaluation.skip(batch(case.split, [], skipped))
    assert evaluation.skipped_ids() == ["image2", "image3", "image5"]
    assert evaluation.compute().curves["cam2016"][LOCALIZER].images == 3
    evaluation.reset()
    assert evaluation.skipped_ids() == []


def test_a_split_of_which_nothing_could_be_read_is_an_error() -> None:
    case = Case(3)
    evaluation = SplitEvaluation(case.split, ResizeSquare(24).views, CAM)
    evaluation.skip(batch(case.split, [], [0, 1, 2]))
    with pytest.raises(InputError, match="none of its 3 images could be read"):
        evaluation.compute()


def test_pictures_are_kept_spread_over_the_split() -> None:
    case = Case(10)
    protocol = PROTOCOLS["cam2016"]

    def pictures(count: int, protocols=CAM) -> list[Picture]:
        evaluation = SplitEvaluation(case.split, ResizeSquare(24).views, protocols, pictures=count)
        return case.feed(evaluation, range(10), 4).pictures(evaluation.compute())

    assert [picture.image_id for picture in pictures(4)] == ["image0", "image6", "image9"]  # image3 is not marked
    for picture in pictures(4):
        i = int(picture.image_id.removeprefix("image"))
        assert (picture.image == i).all()
        assert (picture.label, picture.predicted_label) == (case.labels[i], int(case.logits[i].argmax()))
        assert np.array_equal(picture.true_boxes, case.split.truth(i).half_open)
        (box,) = protocol.predict(case.maps[i, 0], Geometry.square(case.sizes[i], 24))
        assert np.array_equal(picture.predicted_box, box)
        assert 0 <= picture.iou <= 1
    assert len(pictures(50)) == 8
    assert pictures(0) == []
    assert pictures(4, protocols={}) == []


def test_reset_forgets_everything() -> None:
    case = Case(6)
    evaluation = SplitEvaluation(case.split, ResizeSquare(24).views, PROTOCOLS, baselines=True, pictures=6)
    first = plain(case.feed(evaluation, range(6), 6).compute())
    evaluation.reset()
    case.feed(evaluation, [1], 1)
    assert [picture.image_id for picture in evaluation.pictures(evaluation.compute())] == ["image1"]
    evaluation.reset()
    assert plain(case.feed(evaluation, range(6), 6).compute()) == first


def without_boxes(case: Case) -> Split:
    return Marked(case.sizes, case.labels, None)


def without_any_box(case: Case) -> Split:
    return Marked(case.sizes, case.labels, [[]] * len(case.labels))


@pytest.mark.parametrize("split", [lambda case: case.split, without_boxes, without_any_box])
@pytest.mark.parametrize("protocols", [{}, CAM, CHOE, PROTOCOLS])
@pytest.mark.parametrize("topk", [(1, 5), (2,), ()])
def test_names_are_those_of_the_scalars(split, protocols, topk) -> None:
    case = Case(7)
    evaluation = SplitEvaluation(split(case), ResizeSquare(24).views, protocols, topk=topk)
    case.feed(evaluation, range(7), 7)
    values = evaluation.scalars()
    assert all(isinstance(value, float) for value in values.values())
    assert set(evaluation.names()) == set(values)


def test_scalars_read_the_curves() -> None:
    case = Case(12, name="val")
    evaluation = SplitEvaluation(case.split, ResizeSquare(24).views, PROTOCOLS)
    values, measured = case.feed(evaluation, range(12), 5).scalars(), evaluation.compute()
    curve = measured.curves["choe2020"][LOCALIZER]
    assert values["val/choe2020/oracle/gt_known_error"] == pytest.approx(100 - curve.gt_known.max())
    fixed = measured.curves["cam2016"][LOCALIZER]
    assert fixed.thresholds is not None
    assert fixed.thresholds.tolist() == [0.2]
    assert values["val/cam2016/fixed/top5_error"] == pytest.approx(100 - fixed.accuracy("top5")[0, 0])


def test_topk_beyond_the_classes_is_refused_before_any_work() -> None:
    with pytest.raises(InputError, match=r"top-7 of 6 classes; try topk=\[1\]"):
        SplitEvaluation(Case(3).split, ResizeSquare(24).views, CAM, topk=(1, 7), num_classes=CLASSES)


def test_values_stay_when_the_states_move() -> None:
    case = Case(7)
    evaluation = SplitEvaluation(case.split, ResizeSquare(24).views, PROTOCOLS, baselines=True)
    before = plain(case.feed(evaluation, range(7), 3).compute())
    assert plain(evaluation.double().cpu().compute()) == before
    evaluation.reset()
    assert case.feed(evaluation, [0, 1], 2).compute().curves["cam2016"][LOCALIZER].images == 2


# -- the table ---------------------------------------------------------------------------------------------------------


def evaluated(count: int, seed: int, name: str, positions=None) -> SplitEvaluation:
    case = Case(count, seed, name=name)
    evaluation = SplitEvaluation(case.split, ResizeSquare(24).views, PROTOCOLS, baselines=True)
    return case.feed(evaluation, range(count) if positions is None else positions, 8)


def table(**evaluations: SplitEvaluation) -> list[dict]:
    measured = {name: evaluation.compute() for name, evaluation in evaluations.items()}
    return localization_table(measured, evaluations, "test" if "test" in evaluations else "val")


def test_fullsup_thresholds_are_chosen_on_val_and_read_on_test() -> None:
    val, test = evaluated(19, 1, "val"), evaluated(31, 2, "test")
    rows = table(val=val, test=test)
    assert {row["split"] for row in rows} == {"test"}
    for name in CHOE:
        for maps in (LOCALIZER, "centre box", "centre gaussian"):
            row = next(r for r in rows if (r["protocol"], r["maps"], r["threshold_origin"]) == (name, maps, "fullsup"))
            chosen, reported = (e.compute().curves[name][maps] for e in (val, test))
            best = int(np.argmax(chosen.gt_known))
            assert row["threshold"] == pytest.approx(chosen.thresholds[best])
            assert row["gt_known_error"] == pytest.approx(100 - reported.gt_known[0, best])
    for row in rows:
        assert ("top1_error" in row) == (row["maps"] == LOCALIZER)


@pytest.mark.parametrize("val", [{}, {"val": [3]}], ids=["no val", "val without boxes"])
def test_nothing_is_chosen_on_a_val_split_that_says_nothing(val) -> None:
    made = {name: evaluated(5, 1, name, positions) for name, positions in val.items()}
    rows = table(**made, test=evaluated(9, 2, "test"))
    assert {row["threshold_origin"] for row in rows} == {"fixed", "oracle", "none"}


def test_val_alone_has_no_fullsup_row() -> None:
    assert {row["threshold_origin"] for row in table(val=evaluated(9, 2, "val"))} == {"fixed", "oracle", "none"}


# -- masks in the input frame ------------------------------------------------------------------------------------------

sides = st.integers(8, 90)


@given(size=st.tuples(sides, sides), resize=st.integers(20, 40), square=st.booleans(), data=st.data())
def test_a_framed_mask_lies_where_the_geometry_puts_its_box(size, resize, square, data) -> None:
    width, height = size
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    (geometry,) = (ResizeSquare(20) if square else ResizeCrop(20, resize)).views(size)
    mask = np.zeros((height, width), np.uint8)
    mask[y0:y1, x0:x1] = 1
    framed = framed_mask(mask, geometry)
    assert framed.shape == (20, 20)
    ((left, top, right, bottom),) = geometry.to_input([[x0, y0, x1, y1]])
    pixel = np.arange(20)
    # An input pixel takes the stored pixel under its top-left corner; on an edge rounding decides.
    inner, outer = (
        np.ix_(*((pixel > low + slack) & (pixel < high - slack) for low, high in ((top, bottom), (left, right))))
        for slack in (1e-6, -1e-6)
    )
    assert framed[inner].all()
    framed[outer] = 0
    assert not framed.any()


def test_ignored_pixels_stay_ignored_in_the_frame() -> None:
    mask = np.array([[0, 1, 255, 255]], np.uint8).repeat(4, 0)
    assert set(np.unique(framed_mask(mask, Geometry.square((4, 4), 9)))) == {0, 1, 255}
    assert np.array_equal(framed_mask(mask, Geometry((4, 4), (4, 4), (1, 0), (2, 4))), mask[:, 1:3])
