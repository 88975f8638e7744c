"""Boxes that a network gives, from its input to results: against plain loops, and geometry by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.engine.modules import SIDE, batch, images
from tests.marked import CLASSES, PROTOCOLS, Case
from tests.marked import batch as marked_batch
from wsol.backbones.tiny import Tiny
from wsol.data.transforms import EvalTransform, ResizeCrop, ResizeSquare, TenCrop
from wsol.engine import given_boxes, image_results, saved_maps
from wsol.engine.charts import Overlaps, charts
from wsol.engine.chunk_evaluator import LOCALIZER, given_box
from wsol.engine.evaluation import SplitEvaluation
from wsol.engine.localization_table import localization_table
from wsol.engine.module import LocalizerModule, check_pseudo, pseudo_targets
from wsol.engine.predictor import OBJECT, Predictor
from wsol.engine.split_types import PseudoBoxes
from wsol.errors import InputError
from wsol.functional.drawing import picture_sheet
from wsol.heads.box import BoxHead
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer

COUNT = 23
TRANSFORMS = {"square": ResizeSquare(16), "crop": ResizeCrop(16, 20), "ten": TenCrop(16, 20)}

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")


def boxes_of(case: Case, views: int) -> np.ndarray:
    """Around the middle, near the true boxes."""
    rng = np.random.default_rng(1)
    corners = np.sort(rng.uniform(0, 1, (len(case.labels), views, 2, 2)), axis=2)
    return corners.reshape(len(case.labels), views, 4).astype(np.float32)


def evaluated(case: Case, transform: EvalTransform, size: int = 5, **options) -> SplitEvaluation:
    options = {"topk": (1, 5), "baselines": True, "pictures": 4, **options}
    found = SplitEvaluation(case.split, transform.views, PROTOCOLS, gives_boxes=True, **options)
    boxes = boxes_of(case, len(transform.views((30, 30))))
    for start in range(0, len(case.labels), size):
        some = list(range(start, min(start + size, len(case.labels))))
        found.update_boxes(marked_batch(case.split, some), case.logits[some], boxes[some])
    return found


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_protocol_evaluates_the_box_of_the_central_view(name: str) -> None:
    case, transform = Case(COUNT), TRANSFORMS[name]
    evaluation = evaluated(case, transform)
    measured = evaluation.compute()
    central = 4 if name == "ten" else 0
    for protocol in PROTOCOLS.values():
        right, ranks, labels = [], [], []
        for i, size in enumerate(case.sizes):
            truth = case.split.truth(i)
            if truth is None:
                continue
            view = transform.views(size)[central]
            box = boxes_of(case, len(transform.views(size)))[i, central] * 16
            own = view.to_image(box)
            right.append(protocol.evaluate_boxes(own.clip(0, np.tile(size, 2)), view, truth)[:, 0])
            scores = case.logits[i].numpy()
            ranks.append(
                int(
                    (scores > scores[case.labels[i]]).sum() + (scores == scores[case.labels[i]])[: case.labels[i]].sum()
                )
            )
            labels.append(case.labels[i])
        overlaps = len(protocol.iou_thresholds)
        for error, k, rows in (("gt_known", 99, slice(0, overlaps)), ("top1", 1, slice(-overlaps, None))):
            hits = np.array([bits[rows].mean() * (rank < k) for bits, rank in zip(right, ranks, strict=True)])
            by_class = [hits[np.array(labels) == label].mean() for label in sorted(set(labels))]
            expected = 100 - 100 * (np.mean(by_class) if protocol.average == "class" else hits.mean())
            (row,) = [
                row
                for row in localization_table({"test": measured}, {"test": evaluation}, "test", True)
                if row["protocol"] == protocol.name and row["maps"] == LOCALIZER
            ]
            assert (row["threshold_origin"], row["threshold"], row["class_agnostic"]) == ("none", None, True)
            assert row[f"{error}_error"] == pytest.approx(expected)
    assert measured.pixels == {}


def test_batches_do_not_matter_and_nothing_needs_classes() -> None:
    case = Case(COUNT)
    tables = []
    for size, logits in ((1, case.logits), (COUNT, case.logits)):
        case.logits = logits
        evaluation = evaluated(case, TRANSFORMS["crop"], size)
        tables.append(localization_table({"test": evaluation.compute()}, {"test": evaluation}, "test"))
    assert tables[0] == tables[1]
    case.logits = torch.zeros(COUNT, 0)
    evaluation = evaluated(case, TRANSFORMS["crop"], topk=())
    rows = localization_table({"test": evaluation.compute()}, {"test": evaluation}, "test")
    for before, now in zip(tables[0], rows, strict=True):
        assert "top1_error" not in now
        assert before["gt_known_error"] == now["gt_known_error"]


def test_what_is_logged_in_training_and_pictures() -> None:
    case = Case(COUNT)
    evaluation = evaluated(case, TRANSFORMS["square"])
    values = evaluation.scalars()
    assert set(values) == set(evaluation.names())
    assert {name.split("/")[2] for name in values if name.count("/") == 3} == {"none"}
    pictures = evaluation.pictures(evaluation.compute())
    assert pictures
    assert all(picture.heat is None for picture in pictures)
    assert picture_sheet(pictures).any()
    evaluation.reset()
    assert evaluation.given == {}


def test_pseudo_boxes_of_val_choose_a_checkpoint_and_no_threshold() -> None:
    case = Case(COUNT, name="val")
    evaluation = evaluated(case, TRANSFORMS["square"], pseudo=PseudoBoxes(case.split.boxes, {}))
    values = evaluation.scalars()
    assert values["val/choe2020/pseudo/gt_known_error"] == values["val/choe2020/none/gt_known_error"]
    assert values["val/choe2020/pseudo/top1_error"] == values["val/choe2020/none/top1_error"]
    rows = localization_table({"val": evaluation.compute()}, {"val": evaluation}, "val")
    assert {row["threshold_origin"] for row in rows if row["maps"] == LOCALIZER} == {"none"}


def test_each_image_has_its_box_and_kind_of_error() -> None:
    case = Case(COUNT)
    evaluation = evaluated(case, TRANSFORMS["crop"])
    measured = evaluation.compute()
    rows = list(saved_maps.per_image_results(evaluation, measured, None))
    assert len(rows) == sum(box is not None for box in map(case.split.truth, range(COUNT))) * len(PROTOCOLS)
    position = {name: i for i, name in enumerate(case.split.ids)}
    for row in rows:
        assert row.threshold is None
        assert row.threshold_origin == "none"
        assert row.box == tuple(evaluation.given[position[row.image_id]].box.tolist())
        assert row.right == (row.kind == "right")


def test_a_box_that_is_not_finite_is_a_miss_and_reported() -> None:
    case = Case(4)
    evaluation = SplitEvaluation(case.split, TRANSFORMS["square"].views, PROTOCOLS, topk=(), gives_boxes=True)
    boxes = np.tile(np.float32([0, 0, 1, 1]), (4, 1, 1))
    boxes[1, 0, 2] = np.nan
    evaluation.update_boxes(marked_batch(case.split, [0, 1, 2, 3]), case.logits, boxes)
    measured = evaluation.compute()
    assert measured.not_finite == ["image1"]
    assert not measured.curves["choe2020"][LOCALIZER].at(0, 0)[1]


def test_charts_of_boxes() -> None:
    case = Case(COUNT)
    evaluation = evaluated(case, TRANSFORMS["square"])
    seen, measured = Overlaps(evaluation), evaluation.compute()

    class Anywhere:
        class strategy:
            root_device = torch.device("cpu")

    made = charts(measured, seen.protocols, seen.compute(Anywhere), case.labels, [str(k) for k in range(CLASSES)])  # type: ignore[arg-type]
    assert set(made) == {"accuracy_over_iou", "classes"}


def test_geometry_by_hand() -> None:
    # 100 x 50 pixels; the shorter side becomes 20, so 40 x 20; the window of 16 x 16 begins at (12, 2).
    view = ResizeCrop(16, 20).views((100, 50))
    found = given_box(np.array([[0.25, 0.5, 0.75, 1.0]]), view)
    assert found.box.tolist() == [(12 + 4) * 2.5, (2 + 8) * 2.5, (12 + 12) * 2.5, (2 + 16) * 2.5]
    # All of the input is the window alone, never the image beyond it.
    assert given_box(np.array([[0.0, 0.0, 1.0, 1.0]]), view).box.tolist() == [30.0, 5.0, 70.0, 45.0]
    assert given_box(np.array([[0.0, 0.25, 0.5, 1.0]]), ResizeSquare(16).views((100, 50))).box.tolist() == [
        0,
        12.5,
        50,
        50,
    ]
    ten = TenCrop(16, 20).views((100, 50))
    boxes = np.tile([0.0, 0.0, 0.1, 0.1], (10, 1))
    boxes[4] = [0.25, 0.5, 0.75, 1.0]
    assert given_box(boxes, ten).box.tolist() == found.box.tolist()


# -- the network -------------------------------------------------------------------------------------------------------


def network(**head) -> Localizer:
    torch.manual_seed(0)
    return Localizer(Tiny([4, 6, 6, 8]), partial(BoxHead, width=8, **head), 8)


def test_pseudo_targets_reach_the_head_in_parts_of_the_input() -> None:
    given = torch.tensor([[0, 8, 16, 32], [float("nan")] * 4])
    some = batch(2)._replace(pseudo=given)
    expected = torch.tensor([[0, 0.25, 0.5, 1], [float("nan")] * 4])
    torch.testing.assert_close(pseudo_targets(network().head, some), expected, equal_nan=True)
    plain = Localizer(Tiny([4, 6, 6, 8]), partial(GapHead), 8)
    assert pseudo_targets(plain.head, batch(2)) is None
    with pytest.raises(InputError, match="pseudo=boxes: GapHead learns without pseudo targets; leave them out"):
        pseudo_targets(plain.head, some)
    with pytest.raises(
        InputError, match=r"BoxHead learns from pseudo boxes, got none.*wsol eval <run> split=train pseudo=boxes"
    ):
        LocalizerModule(network()).training_step(batch(2), 0)
    with pytest.raises(InputError, match="BoxHead learns from pseudo boxes, got masks"):
        pseudo_targets(network().head, some._replace(pseudo=torch.zeros(2, 1, SIDE, SIDE, dtype=torch.uint8)))
    check_pseudo(network().head, "boxes")


@pytest.mark.parametrize("classify", [False, True])
def test_predictions(classify: bool) -> None:
    model, picture = network(classify=classify), images(1)[0].permute(1, 2, 0).numpy()
    predictor = Predictor(model, ResizeSquare(SIDE), protocol="choe2020")  # which has no fixed threshold
    found = predictor.predict(np.repeat(picture, 2, axis=1))
    assert found.map is None
    assert found.picture().shape == (SIDE, 2 * SIDE, 3)
    _, boxes = (
        LocalizerModule(model).eval().boxes(torch.from_numpy(ResizeSquare(SIDE)(np.repeat(picture, 2, axis=1)))[None])
    )
    np.testing.assert_allclose(found.box, boxes[0, 0].detach().numpy() * [64, 32, 64, 32], rtol=1e-5)
    if classify:
        first, second = (predictor.predict(picture, label) for label in (0, 7))
        assert 0 < first.score < 1
        assert first.box.tolist() == second.box.tolist()
    else:
        assert (found.name, found.score) == (OBJECT, 1)
    with pytest.raises(InputError, match=r"threshold=0.2: a head without maps was asked for maps"):
        Predictor(model, ResizeSquare(SIDE), threshold=0.2)
    with pytest.raises(InputError, match=r"map_size=.*: a head without maps was asked for maps"):
        predictor.predict(picture, map_size=(4, 4))


def test_views_give_a_box_each_and_their_scores_are_averaged() -> None:
    model = network(classify=True)
    module = LocalizerModule(model).eval()
    pixels = images(2, 3)
    logits, boxes = module.boxes(pixels)
    assert logits.shape == (2, 8)
    assert boxes.shape == (2, 3, 4)
    alone = module.boxes(pixels[:, 1])
    torch.testing.assert_close(boxes[:, 1], alone[1][:, 0])


# -- on disk -----------------------------------------------------------------------------------------------------------


def kept_in(folder: Path, evaluation: SplitEvaluation, **changes: np.ndarray) -> Path:
    """A folder with the boxes of an evaluation, some arrays changed."""
    split = evaluation.split
    arrays = image_results.arrays_of(split.name, list(split.ids), split.labels)
    arrays |= given_boxes.arrays_of(split, evaluation.given)
    image_results.write(folder, arrays | {f"{split.name}/{name}": values for name, values in changes.items()})
    return folder


def test_boxes_are_read_as_they_were_given(tmp_path: Path) -> None:
    case = Case(COUNT)
    evaluation = evaluated(case, TRANSFORMS["ten"])
    measured = evaluation.compute()
    del evaluation.given[3]  # as of an image that cannot be read
    evaluation.given[4] = evaluation.given[4]._replace(box=np.full(4, np.nan))
    ranks = image_results.pack(measured.ranks[1], measured.ranks[0], COUNT, np.uint16)
    found = given_boxes.read(kept_in(tmp_path, evaluation, ranks=ranks), case.split, CLASSES)
    assert set(found.boxes) == {name for i, name in enumerate(case.split.ids) if i != 3}
    for i, given in evaluation.given.items():
        same = found.boxes[case.split.ids[i]]
        np.testing.assert_array_equal(same.box, given.box)
        assert (same.view, same.predicted) == (given.view, given.predicted)
    first = case.logits.argmax(1).numpy()
    assert found.predicted.tolist() == [-1 if i == 3 else label for i, label in enumerate(first.tolist())]
    np.testing.assert_array_equal(found.ranks, measured.ranks[1])
    assert given_boxes.read(tmp_path / "nowhere", case.split, CLASSES) is None
    assert given_boxes.read(kept_in(tmp_path, evaluation), case.split, CLASSES).ranks is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": np.zeros((COUNT, 3))}, "test/boxes is"),
        ({"boxes": np.zeros((COUNT, 4), int)}, "test/boxes is"),
        ({"views": np.tile(np.int32([1, 1, 1, 1, 0, 0, 1, 1, 0]), (COUNT, 1))}, "image0: an image of 1 x 1 pixels"),
        ({"views": np.ones((COUNT, 9), np.int32)}, "test/views: a view outside its image"),
        ({"views": np.full((COUNT, 9), -1, np.int32)}, "test/views: image size -1 x -1"),
        ({"predicted": np.full(COUNT, -2)}, "test/predicted: a class beyond 0"),
        ({"predicted": np.full(COUNT, CLASSES)}, "test/predicted: a class beyond 0"),
        ({"ids": np.array(["x"] * COUNT)}, "its images are not those of the test split"),
        ({"ranks": np.zeros(2, np.uint16)}, "test/ranks is"),
    ],
)
def test_damaged_boxes_are_refused_by_name(changes: dict, message: str, tmp_path: Path) -> None:
    case = Case(COUNT)
    evaluation = evaluated(case, TRANSFORMS["square"])
    evaluation.compute()
    with pytest.raises(InputError, match=rf"image_results.npz: corrupt \({message}"):
        given_boxes.read(kept_in(tmp_path, evaluation, **changes), case.split, CLASSES)
