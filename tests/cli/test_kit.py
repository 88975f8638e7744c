"""`wsol kit` on a small ILSVRC in the published layout."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.data.layouts import SYNSETS, make_ilsvrc
from wsol.cli import main
from wsol.data.datasets.ilsvrc import ILSVRC
from wsol.interop.coco import PredictedBox, PredictionFiles
from wsol.interop.ilsvrc_kit import write_kit

ORDER = [4, 2, 0, 1, 3]
"""The kit's classes 1, 2, ... as positions among the sorted synsets."""


@pytest.fixture
def ilsvrc(tmp_path: Path) -> list[str]:
    """Words that name the dataset; images 1..6, of which 2 is blacklisted."""
    root = make_ilsvrc(tmp_path / "ILSVRC", classes=3, val_per_class=2)
    (tmp_path / "blacklist.txt").write_text("2\n")
    (tmp_path / "synsets.txt").write_text("".join(f"{SYNSETS[i]}\n" for i in ORDER))
    return [
        f"data.root={root}",
        f"data.blacklist={tmp_path / 'blacklist.txt'}",
        f"devkit_synsets={tmp_path / 'synsets.txt'}",
    ]


def test_errors_are_the_challenges(ilsvrc, tmp_path: Path, capsys) -> None:
    split = ILSVRC(tmp_path / "ILSVRC").split("test")
    labels = split.labels
    ranked = np.stack([labels, (labels + 1) % 3], axis=1)
    ranked[3] = ranked[3, ::-1]  # image 4: the true class comes second
    boxes = np.stack([[split.truth(i).boxes[0]] * 2 for i in range(6)])
    boxes[1] = boxes[4] = [0, 0, 1, 1]  # images 2 (blacklisted) and 5: too small
    kit_classes = {label: ORDER.index(label) + 1 for label in range(3)}
    write_kit(tmp_path / "guesses.txt", split.ids, ranked, boxes, kit_classes)
    assert main(["ilsvrc-kit", f"predictions={tmp_path / 'guesses.txt'}", *ilsvrc]) == 0
    out = capsys.readouterr().out
    found = dict(re.findall(r"(\w+_error): ([\d.]+) %", out))
    assert found == {"top5_error": "20.00", "top1_error": "40.00", "top5_classification_error": "0.00"}
    assert "6 validation images, 1 of them blacklisted" in out


def test_bad_input_is_refused(ilsvrc, tmp_path: Path, capsys) -> None:
    def refused(message: str, *words: str) -> None:
        assert main(["ilsvrc-kit", *words]) == 2
        error = capsys.readouterr().err
        assert re.search(message, error), error

    guesses = tmp_path / "guesses.txt"
    refused("which predictions", *ilsvrc)
    guesses.write_text("1 0 0 9 9\n2 0 0 9\n")
    refused("guesses.txt:2", f"predictions={guesses}", *ilsvrc)
    guesses.write_text("1 0 0 9 9\n")
    refused("1 lines, expected one for each image 1..6", f"predictions={guesses}", *ilsvrc)
    guesses.write_text("1 0 0 9 9\n" * 6)
    (tmp_path / "synsets.txt").write_text(f"{SYNSETS[0]}\n")
    refused("synsets.txt: no line for", f"predictions={guesses}", *ilsvrc)


def test_predictions_are_written_for_the_server_and_score_alike(ilsvrc, tmp_path: Path, capsys) -> None:
    source = ILSVRC(tmp_path / "ILSVRC")
    split = source.split("test")
    folder = tmp_path / "predict"
    folder.mkdir()
    with PredictionFiles(folder, source.classes, 3) as out:
        for i in reversed(range(6)):
            label, (box, *_) = int(split.labels[i]), split.truth(i).half_open
            image = f"val/{Path(split.ids[i]).name}"
            out.add(PredictedBox(image, split.size(i), (label + 1) % 3, 0.3, box))  # not the best, so written second
            out.add(PredictedBox(image, split.size(i), label, 0.6, box if i else box * 0.1))
    words = ["ilsvrc-kit", f"predictions={folder}", f"out={tmp_path / 'guesses.txt'}", *ilsvrc]
    assert main(words) == 0
    assert "6 images, up to 2 guesses each" in capsys.readouterr().out
    first = (tmp_path / "guesses.txt").read_text().splitlines()[1].split()
    assert first[0] == str(ORDER.index(int(split.labels[1])) + 1)
    assert [float(value) for value in first[1:5]] == (split.truth(1).half_open[0] - [0, 0, 1, 1]).tolist()
    assert main(["ilsvrc-kit", f"predictions={tmp_path / 'guesses.txt'}", *ilsvrc]) == 0
    assert "top1_error: 20.00 %" in capsys.readouterr().out  # image 1 of five; image 2 is blacklisted
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err


HEAD = "image,class,index,score,x0,y0,x1,y1,iou,width,height\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "predictions.csv:1: expected the header image,class"),
        (
            HEAD + "a.jpg,cat,x,1,0,0,1,1,,9,9\n",
            "predictions.csv:2: exp",
        ),
        (
            HEAD + "a.jpg,cat,0,1,0,0,nan,1,,9,9\n",
            "predictions.csv:2: exp",
        ),
        ("", "predictions.csv:1: expected the header"),
        (None, "predictions.csv: cannot be read"),
    ],
)
def test_a_bad_table_is_refused(ilsvrc, tmp_path: Path, capsys, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "predictions.csv").write_text(text)
    assert (
        main(["ilsvrc-kit", f"predictions={tmp_path / 'predictions.csv'}", f"out={tmp_path / 'out.txt'}", *ilsvrc]) == 2
    )
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.txt").exists()
