"""A folder of 20 images of one class for each of the other: weights of classes, balanced sampling, top-k, the head."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tests.data.layouts import make_folder, paint
from wsol.cli import main
from wsol.data.datasets.folder import Folder
from wsol.data.module import LocalizationData
from wsol.data.samplers import TrainSampler, balanced_order
from wsol.data.transforms import ResizeSquare, SmallCrop
from wsol.engine.class_weights import class_weights
from wsol.errors import InputError

COUNTS = {"benign": 40, "malignant": 2}
WORDS = [
    "data=folder",
    "data.boxes=boxes.csv",
    "transform=small",
    "image_size=32",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "loader.num_workers=0",
    "loader.batch_size=14",
    "protocol=[cam2016]",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty to one, and six test images, of which four have boxes."""
    root = make_folder(tmp_path_factory.mktemp("unbalanced"), splits=("test",), classes=tuple(COUNTS))
    for label, (name, count) in enumerate(COUNTS.items()):
        for k in range(count):
            paint(root / "train" / name / f"{k}.jpg", label, k)
    rows = (root / "boxes.csv").read_text().splitlines()
    (root / "boxes.csv").write_text("\n".join(row for row in rows if "test2.jpg" not in row))
    return root


def test_automatic_weights_have_the_mean_one(root: Path) -> None:
    source = Folder(root)
    split = source.split("train")
    weights = class_weights("auto", split, source.classes)
    assert weights is not None
    assert weights.tolist() == pytest.approx([42 / 80, 42 / 4])
    assert weights[torch.from_numpy(split.labels)].mean().item() == pytest.approx(1.0)
    named = class_weights(OmegaConf.create({"malignant": 4}), split, source.classes)
    assert named is not None
    assert named.tolist() == [1.0, 4.0]
    assert class_weights(None, split, source.classes) is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("balanced", r"class_weights=balanced: expected null, auto, or weights by name"),
        ({"malign": 2.0}, r"unknown class in class_weights 'malign': did you mean 'malignant'"),
        ({"benign": -1}, r"class_weights: expected a number above 0 for 'benign', got -1"),
        ({"benign": float("nan")}, r"class_weights: expected a number above 0"),
    ],
)
def test_faulty_weights_are_refused(root: Path, setting: object, message: str) -> None:
    source = Folder(root)
    with pytest.raises(InputError, match=message):
        class_weights(setting, source.split("train"), source.classes)


def test_balanced_orders_are_even_within_one() -> None:
    labels = np.repeat([0, 2, 5], [40, 2, 7])
    order = balanced_order(labels, 50, np.random.default_rng(0))
    assert sorted(Counter(labels[order].tolist()).values()) == [16, 17, 17]
    for label in (0, 2, 5):
        times = Counter(order[labels[order] == label].tolist())
        assert set(times) == set(np.flatnonzero(labels == label)) or len(times) == len(order[labels[order] == label])
        assert max(times.values()) - min(times.values()) <= 1


def test_processes_share_one_balanced_epoch() -> None:
    labels = np.repeat([0, 1], [40, 2])

    def keys(rank: int, world: int, **more: object) -> list:
        sampler = TrainSampler(42, seed=3, rank=rank, world=world, labels=labels, **more)
        sampler.set_epoch(5)
        return list(sampler)

    alone = keys(0, 1)
    assert [key for pair in zip(keys(0, 2), keys(1, 2), strict=True) for key in pair] == alone
    assert len(set(alone)) == len(alone) == 42  # the same image comes again under another key, so otherwise augmented
    assert Counter(int(labels[i]) for i, *_ in alone) == {0: 21, 1: 21}
    assert keys(1, 2, taken=(5, 4)) == keys(1, 2)[4:]


def test_loaders_draw_as_asked(root: Path) -> None:
    def labels(sampler: str) -> list[int]:
        data = LocalizationData(
            Folder(root), SmallCrop(32), ResizeSquare(32), batch_size=14, num_workers=0, sampler=sampler
        )
        return torch.cat([batch.labels for batch in data.train_dataloader()]).tolist()

    assert Counter(labels("uniform")) == {0: 40, 1: 2}
    assert Counter(labels("balanced")) == {0: 21, 1: 21}
    with pytest.raises(InputError, match=r"unknown loader\.sampler 'balance': did you mean 'balanced'"):
        labels("balance")


def test_a_binary_set_trains_without_further_words(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, f"data.root={root}", "class_weights=auto", "loader.sampler=balanced"]
    run = tmp_path / "run"
    assert main(["train", *words, f"run_dir={run}"]) == 0
    shown = capsys.readouterr()
    assert "top-5 is left out: there are 2 classes" in shown.err
    assert "test split (6 images, 4 of them with boxes)" in shown.out
    results = json.loads((run / "results.json").read_text())
    assert set(results["classification"]["test"]) == {"top1_error"}
    assert results["data"]["splits"]["test"]["images"] == 6
    assert results["data"]["splits"]["test"]["images_with_boxes"] == 4
    assert {row["images"] for row in results["localization"]} == {4}
    config = OmegaConf.load(run / "config.yaml")
    assert (config.class_weights, config.loader.sampler) == ("auto", "balanced")
    assert main(["eval", f"run={run}", "num_workers=0", "save_maps=true", f"out={tmp_path / 'eval'}"]) == 0
    assert "4 of them with boxes" in capsys.readouterr().out
    own = [*WORDS[:2], f"data.root={root}", "protocol=[cam2016]"]
    assert main(["score", f"maps={tmp_path / 'eval'}", f"out={tmp_path / 'score'}", *own]) == 0
    assert "4 of them with boxes" in capsys.readouterr().out


def test_weights_change_what_is_learned(root: Path, tmp_path: Path) -> None:
    losses = {}
    for weights in ("null", "auto", "{benign: 0.5, malignant: 10.5}"):
        run = tmp_path / f"run{len(losses)}"
        words = [*WORDS, f"data.root={root}", f"class_weights={weights}", f"run_dir={run}"]
        assert main(["train", *words]) == 0
        losses[weights] = (run / "metrics.csv").read_text()
    assert len(set(losses.values())) == 3
