"""What every exported metric promises, as torchmetrics' own do."""

from __future__ import annotations

import copy
import inspect
import pickle

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torchmetrics import Metric, MetricCollection, MetricTracker

import wsol.metrics
from tests.metrics.cases import (
    BOXES,
    CASES,
    COUNT,
    LABELS,
    LOGITS,
    MAPS,
    MASKS,
    SCORES,
    SIZE,
    WORDS,
    update,
    values,
    whole,
)
from wsol.errors import InputError
from wsol.metrics import LocalizationError, MaxBoxAcc, PxAP
from wsol.protocols import protocol

PARTS = ([0, 1, 2], [3], [4, 5, 6, 7], [8, 9, 10, 11])
KEYED = pytest.mark.parametrize("keyed", [False, True], ids=["without index", "with index"])


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_every_exported_metric_has_a_case() -> None:
    exported = {c for c in vars(wsol.metrics).values() if inspect.isclass(c) and issubclass(c, Metric)}
    exported.remove(wsol.metrics.PerImage)  # the base of metrics of a user's own
    assert exported == {type(case.make()) for case in CASES.values()}
    assert {c.__name__ for c in exported} <= set(wsol.metrics.__all__)
    for one in exported:  # a subclass of a metric takes what that metric takes
        for other in exported - {one}:
            if issubclass(one, other):
                assert inspect.signature(one.update) == inspect.signature(other.update)


@KEYED
def test_forward_over_batches_equals_one_update(case, keyed: bool) -> None:
    metric = case.make()
    for part in PARTS:
        assert values(update(metric, case, part, keyed, "forward")) == pytest.approx(whole(case, part), nan_ok=True)
    assert values(metric.compute()) == whole(case)


@KEYED
def test_batches_and_order_change_nothing(case, keyed: bool) -> None:
    metric = case.make()
    for start in range(0, COUNT, 5):
        update(metric, case, range(COUNT)[::-1][start : start + 5], keyed)
    assert values(metric.compute()) == whole(case)


def test_an_image_with_an_index_counts_once(case) -> None:
    metric = case.make()
    for part in ([0, 1, 2, 2], [3, 4, 5, 6, 7, 1], [8, 9, 10, 11, 0]):
        update(metric, case, part, keyed=True)
    assert values(metric.compute()) == whole(case)


def test_images_with_and_without_an_index_go_together(case) -> None:
    metric = case.make()
    for keyed, part in zip((True, False, True, False), PARTS, strict=True):
        update(metric, case, part, keyed)
    update(metric, case, PARTS[0], keyed=True)
    assert values(metric.compute()) == whole(case)


@KEYED
def test_goes_on_from_a_state_dict(case, keyed: bool) -> None:
    first = case.make()
    first.persistent(True)
    for part in PARTS[:2]:
        update(first, case, part, keyed)
    saved = first.state_dict()
    second, third = case.make(), case.make()
    for metric in (second, third):
        metric.persistent(True)
        metric.load_state_dict(saved)
    assert values(second.compute()) == whole(case, range(4))
    third.reset()  # which must not empty what the others have
    for part in PARTS[2:]:
        update(second, case, part, keyed, "forward")
        update(first, case, part, keyed)
    assert values(second.compute()) == values(first.compute()) == whole(case)


@pytest.mark.parametrize("copied", [Metric.clone, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_go_on_by_themselves(case, copied) -> None:
    metric = case.make()
    update(metric, case, range(4), keyed=False)
    other = copied(metric)
    update(other, case, range(4, COUNT), keyed=False)
    assert values(other.compute()) == whole(case)
    assert values(metric.compute()) == whole(case, range(4))


def test_reset_forgets_all(case) -> None:
    metric = case.make()
    update(metric, case, range(6), keyed=True)
    metric.reset()
    with pytest.warns(UserWarning, match="before"):
        assert all(np.isnan(value) for value in values(metric.compute()).values())
    update(metric, case, range(COUNT), keyed=True)
    assert values(metric.compute()) == whole(case)


def test_an_empty_batch_changes_nothing(case) -> None:
    metric = case.make()
    update(metric, case, [], keyed=True)
    update(metric, case, range(COUNT), keyed=True)
    update(metric, case, [], keyed=False)
    assert values(metric.compute()) == whole(case)


def test_a_refused_batch_changes_nothing(case) -> None:
    metric = case.make()
    update(metric, case, range(4), keyed=False)
    positional, named = case.arguments(range(4, COUNT))
    for call in (metric.update, metric.forward):
        with pytest.raises(InputError, match="index"):
            call(*positional, **named, index=[-1] * (COUNT - 4))
    update(metric, case, range(4, COUNT), keyed=False, call="forward")
    assert values(metric.compute()) == whole(case)


def test_values_are_plotted(case) -> None:
    metric = case.make()
    update(metric, case, range(COUNT), keyed=False)
    assert (metric.plot_lower_bound, metric.plot_upper_bound) == (0.0, 100.0)
    for value in (None, [metric.compute(), metric.compute()]):
        figure, axes = metric.plot(value)
        assert axes.has_data()
        plt.close(figure)


def test_a_tracker_finds_the_best_step(case) -> None:
    maximize = case.make().higher_is_better is not False
    tracker = MetricTracker(MetricCollection({"it": case.make()}), maximize=maximize)
    by_step = []
    for step in range(3):
        tracker.increment()
        update(tracker, case, range(4 * step, 4 * step + 4), keyed=False)
        by_step.append(whole(case, range(4 * step, 4 * step + 4)))
    best, steps = tracker.best_metric(return_step=True)
    for (name, value), expected in zip(best.items(), by_step[0], strict=True):
        found = [step[expected] for step in by_step]
        assert value == pytest.approx((max if maximize else min)(found))
        assert found[steps[name]] == pytest.approx(value)


@pytest.mark.parametrize("make", [MaxBoxAcc, PxAP])
def test_a_tracker_knows_the_direction(make) -> None:
    case = CASES[make.__name__]
    tracker = MetricTracker(make())
    for step in range(3):
        tracker.increment()
        update(tracker, case, range(4 * step, 4 * step + 4), keyed=False)
    assert tracker.best_metric() == max(whole(case, range(4 * s, 4 * s + 4))["value"] for s in range(3))


def test_labels_come_in_any_form() -> None:
    metric = LocalizationError("bas2022")
    for labels in (LABELS, torch.from_numpy(LABELS), LABELS.tolist(), LABELS.astype(np.uint8)):
        metric.reset()
        metric.update(MAPS, BOXES, np.array([SIZE] * COUNT), logits=LOGITS, labels=labels)
        assert values(metric.compute()) == whole(CASES["LocalizationError, mean over classes"])


def test_functions_equal_the_classes() -> None:
    case = CASES["LocalizationError"]
    positional, named = case.arguments(range(COUNT))
    assert values(wsol.metrics.localization_error(*positional, **named)) == whole(case)
    assert values(wsol.metrics.max_box_acc(*positional)) == whole(CASES["MaxBoxAcc"])
    assert values(wsol.metrics.max_box_acc(*positional, v2=True)) == whole(CASES["MaxBoxAccV2"])
    assert values(wsol.metrics.pxap(SCORES, MASKS)) == whole(CASES["PxAP"])
    assert values(wsol.metrics.topk_error(LOGITS, LABELS)) == whole(CASES["TopKError"])
    assert values(wsol.metrics.error_split(WORDS)) == whole(CASES["ErrorSplit"])


def blob(x0: int, y0: int, x1: int, y1: int, value: float = 1.0, on: torch.Tensor | None = None) -> torch.Tensor:
    out = torch.zeros(1, 20, 20) if on is None else on
    out[:, y0:y1, x0:x1] = value
    return out


PROTOCOLS = ["acol2018", "bas2022", "cam2016", "cam2016-code", "choe2020", "psol2020", "tscam2021"]


def test_seven_protocols_in_a_collection_are_each_themselves() -> None:
    """A first map misses under every protocol, so that all states are equal then (torchmetrics#2916)."""
    two = blob(14, 14, 20, 20, on=blob(0, 0, 10, 10, 0.9))
    stream = [(blob(14, 14, 20, 20), [[0.0, 0, 4, 4]])] + [(two, [[14.0, 14, 20, 20]])] * 3
    generator = torch.Generator().manual_seed(0)
    stream += [(torch.rand(1, 5, 5, generator=generator), [[2.0, 2, 14, 16]]) for _ in range(12)]
    alone = {name: LocalizationError(name, topk=[]) for name in PROTOCOLS}
    together = MetricCollection({name: LocalizationError(name, topk=[]) for name in PROTOCOLS} | {"max": MaxBoxAcc()})
    for score_map, boxes in stream:
        for metric in (*alone.values(), together):
            metric.update(score_map, [torch.tensor(boxes)], sizes=[(20, 20)], labels=[0])
    found = together.compute()
    for name, metric in alone.items():
        assert found[f"{name}_gt_known_error"] == metric.compute()["gt_known_error"]
    assert found["cam2016-code_gt_known_error"].item() == 25.0
    assert found["max"] == 100 - alone["choe2020"].compute()["gt_known_error"]


def test_changed_protocols_of_one_name_are_kept_apart() -> None:

    changed = LocalizationError(protocol("cam2016", fixed_threshold=0.7), topk=[])
    together = MetricCollection({"as it is": LocalizationError("cam2016", topk=[]), "changed": changed})
    for i in range(COUNT):
        together.update(MAPS[i : i + 1], BOXES[i : i + 1], [SIZE])
    assert len(together.compute_groups) == 2
