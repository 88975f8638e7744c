"""Metrics, readers and the public door, called from Python with what they cannot take, or with what they must get right."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from scripts.robustness.runner import Place, Try, nothing
from scripts.robustness.sandbox import Outcome
from wsol.metrics import MaxBoxAcc, PxAP, TopKError, max_box_acc, pxap, topk_error

KIND = "metrics and API called from Python"
Call = Callable[[Place], Any]


def tries() -> Iterator[Try]:
    """All of them."""
    yield from _classification()
    yield from _boxes()
    yield from _pixels()
    yield from _networks()


def _try(what: str, call: Call, right: str = "refused", names: tuple[str, ...] = ()) -> Try:
    return Try(KIND, what, nothing, call, right, names)


def _right(what: str, call: Callable[[], float], value: float) -> Try:
    """A call whose result is known."""

    def held(place: Place) -> float:
        got = float(call())
        if not math.isclose(got, value, abs_tol=1e-6):
            raise AssertionError(f"expected {value}, got {got}")
        return got

    def never(place: Place, outcome: Outcome) -> bool:
        return outcome.code == 0

    return Try(KIND, what, nothing, held, "accepted", (), never)


def _classification() -> Iterator[Try]:
    scores, labels, index = torch.zeros(2, 6), torch.tensor([0, 1]), torch.tensor([0, 1])

    def update(*arguments: Any) -> Call:
        def call(place: Place) -> Any:
            metric = TopKError(topk=(1, 2))
            metric.update(*arguments)
            return metric.compute()

        return call

    bad: dict[str, tuple[Any, Any, Any]] = {
        "one label for two images": (scores, labels[:1], index),
        "three labels for two images": (scores, torch.tensor([0, 1, 2]), index),
        "one position for two images": (scores, labels, index[:1]),
        "scores of one dimension": (scores[0], labels, index),
        "scores of three dimensions": (scores[None], labels, index),
        "scores without classes": (scores[:, :0], labels, index),
        "scores of text": ("abc", labels, index),
        "scores that are null": (None, labels, index),
        "complex scores": (scores.to(torch.complex64), labels, index),
        "meta scores": (scores.to("meta"), labels, index),
        "a label of 99": (scores, torch.tensor([0, 99]), index),
        "a label of -1": (scores, torch.tensor([0, -1]), index),
        "labels of fractions": (scores, torch.tensor([0.5, 1.0]), index),
        "labels of two dimensions": (scores, labels[None], index),
        "labels that are truth values": (scores, torch.tensor([True, False]), index),
        "a position of -1": (scores, labels, torch.tensor([-1, 0])),
        "positions of fractions": (scores, labels, torch.tensor([0.2, 0.7])),
        "positions of text": (scores, labels, ["a", "b"]),
    }
    for what, arguments in bad.items():
        yield _try(f"TopKError: {what}", update(*arguments))
    for topk in ((0,), (-1,), (7,), (1.5,), ("a",), (), None, 5, (1, 1)):
        right = "either" if topk in ((), (1, 1)) else "refused"
        yield _try(f"TopKError: topk={topk}", lambda p, t=topk: topk_error(scores, labels, t), right)
    yield _right(
        "topk_error: scores of NaN predict nothing", lambda: topk_error(scores * math.nan, labels)["top5_error"], 100
    )
    table = torch.tensor([[0.1, 0.7, 0.2], [0.6, 0.4, 0.0], [0.2, 0.2, 0.6], [0.3, 0.5, 0.2]])
    truth = torch.tensor([2, 0, 2, 2])
    yield _right("topk_error: top-1 of four images", lambda: topk_error(table, truth, (1,))["top1_error"], 50)
    yield _right("topk_error: top-2 of four images", lambda: topk_error(table, truth, (2,))["top2_error"], 25)
    yield _right("topk_error: one image", lambda: topk_error(table[:1], truth[:1], (1,))["top1_error"], 100)


def _boxes() -> Iterator[Try]:
    good = np.zeros((16, 16))
    good[4:12, 4:12] = 1.0
    box, size = torch.tensor([[4.0, 4.0, 12.0, 12.0]]), (16, 16)

    def update(maps: Any = None, boxes: Any = None, sizes: Any = None, index: Any = None, **more: Any) -> Call:
        def call(place: Place) -> Any:
            metric = MaxBoxAcc()
            given = dict(more)
            if sizes is not None:
                given["sizes"] = sizes
            metric.update(
                [torch.from_numpy(good)] if maps is None else maps,
                [box] if boxes is None else boxes,
                index=torch.tensor([0]) if index is None else index,
                **given,
            )
            return metric.compute()

        return call

    tensor = torch.from_numpy(good)
    for what, value in {
        "of no pixels": tensor[:0], "of one dimension": tensor[0], "of three dimensions": tensor[None, None], "of text": "abc",
        "null": None, "complex": tensor.to(torch.complex64), "a list of texts": [["a"]], "on the meta device": tensor.to("meta"),
        "a ragged list": [[1.0], [1.0, 2.0]],
    }.items():  # fmt: skip
        yield _try(f"MaxBoxAcc: a map {what}", update(maps=[value]))
    for what, value in {
        "without rows": torch.zeros(0, 4), "of five columns": torch.zeros(1, 5), "of three columns": torch.zeros(1, 3),
        "of NaN": box * math.nan, "of infinity": box + math.inf, "with x1 before x0": torch.tensor([[12.0, 4, 4, 12]]),
        "without area": torch.tensor([[4.0, 4, 4, 12]]), "of text": "abcd", "null": None, "complex": box.to(torch.complex64),
        "on the meta device": box.to("meta"), "of three dimensions": box[None],
    }.items():  # fmt: skip
        yield _try(f"MaxBoxAcc: boxes {what}", update(boxes=[value]))
    for what, value in {
        "0": (0, 16), "negative": (-16, 16), "NaN": (math.nan, 16), "of three numbers": (16, 16, 3), "text": "ab",
        "of fractions": (16.5, 16), "10**12": (10**12, 10**12), "null": (None, 16),
    }.items():  # fmt: skip
        right = "accepted" if what == "10**12" else "refused"  # a map may be of any size
        yield _try(f"MaxBoxAcc: a size {what}", update(sizes=[value]), right)
    for what, value in {
        "-1": [-1],
        "0.5": [0.5],
        "text": ["a"],
        "two for one": [0, 1],
        "none": [],
        "NaN": [math.nan],
    }.items():
        yield _try(f"MaxBoxAcc: index {what}", update(index=value))
    yield _try("MaxBoxAcc: labels without scores", update(labels=torch.tensor([0])), "accepted")  # not needed
    yield _try("MaxBoxAcc: scores without labels", update(logits=torch.zeros(1, 3)))
    yield _try("MaxBoxAcc: two boxes of one map", update(boxes=[box, box]))
    yield _try("MaxBoxAcc: no boxes of one map", update(boxes=[]))
    yield _right("MaxBoxAcc: a map that is its box", lambda: _number(update()(None)), 100)  # type: ignore[arg-type]
    miss = [torch.tensor([[0.0, 0.0, 2.0, 2.0]])]
    yield _right("max_box_acc: a box elsewhere", lambda: _number(max_box_acc([tensor], miss)), 0)
    _ = size


def _number(value: Any) -> float:
    """The number in what a metric returns: itself, or the first of a mapping."""
    return float(next(iter(value.values())) if isinstance(value, dict) else value)


def _pixels() -> Iterator[Try]:
    scores, mask = np.array([[0.9, 0.4, 0.2]]), np.array([[1, 0, 255]], np.uint8)
    for what, (one, other) in {
        "another shape": (scores, mask[:, :2]), "a score of 2": (scores + 2, mask), "a score of -1": (scores - 2, mask),
        "scores of NaN": (scores * math.nan, mask), "a mask of 7": (scores, mask + 7), "no object": (scores, mask * 0),
        "a mask of text": (scores, np.full((1, 3), "a")), "a map of one dimension": (scores[0], mask[0]),
        "a map of no pixels": (scores[:, :0], mask[:, :0]), "a map that is null": (None, mask),
    }.items():  # fmt: skip
        yield _try(f"pxap: {what}", lambda p, a=one, b=other: pxap([a], [b]))
    yield _try("pxap: a mask too few", lambda p: pxap([scores, scores], [mask]))
    yield _try("pxap: no maps", lambda p: pxap([], []), "either")
    for number in (0, -5, 1.5, "a"):
        yield _try(f"PxAP: num_thresholds={number}", lambda p, n=number: pxap([scores], [mask], n))
    yield _right("pxap: a perfect map", lambda: pxap([scores], [mask]), 100)
    yield _try("PxAP: positions of fractions", lambda p: PxAP().update([scores], [mask], torch.tensor([0.5])))


def _networks() -> Iterator[Try]:
    def localize(*arguments: Any, **more: Any) -> Call:
        def call(place: Place) -> Any:
            from wsol import load

            made = load(place.base.path("run"), device="cpu")
            return made.predict(*[a(place) if callable(a) else a for a in arguments], **more)

        return call

    image = np.zeros((40, 60, 3), np.uint8)
    for what, value in {
        "of floats": image.astype(float), "of two dimensions": image[..., 0], "of four channels": np.zeros((4, 4, 4), np.uint8),
        "of no pixels": image[:0], "of text": np.full((4, 4, 3), "a"), "null": None, "a number": 5, "a missing file": "/nobody.jpg",
        "a file that is no image": lambda place: place.base.path("run") / "results.json", "a folder": lambda place: place.base.folder,
    }.items():  # fmt: skip
        yield _try(f"Predictor.predict: an image {what}", localize(value))
    for label in ("nobody", 99, -1, 1.5, None):
        right = "accepted" if label is None else "refused"
        yield _try(f"Predictor.predict: label={label}", localize(image, label=label), right)
    yield _try("Predictor.predict: an image of one pixel", localize(image[:1, :1]), "accepted")

    def load(value: Any, **more: Any) -> Call:
        def call(place: Place) -> Any:
            from wsol import load

            return load(value(place) if callable(value) else value, **more)

        return call

    for what, value in {
        "nobody": "/nobody", "a folder": lambda p: p.base.folder, "results.json": lambda p: p.base.path("run") / "results.json",
        "an image": lambda p: p.base.path("image"), "an empty text": "",
    }.items():  # fmt: skip
        yield _try(f"wsol.load: {what}", load(value))
    good = lambda p: p.base.path("run")  # noqa: E731
    for more in ({"protocol": "nobody"}, {"threshold": 2.0}, {"threshold": math.nan}, {"device": "abacus"}):
        yield _try(f"wsol.load: {more}", load(good, **more))
