"""What `wsol data verify` reads, says that it read, and finds."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from layouts import make_folder, make_openimages
from PIL import Image

from wsol.cli import main
from wsol.data import file_source
from wsol.data.datasets.folder import Folder
from wsol.data.datasets.openimages import OpenImages
from wsol.data.file_source import verify_source
from wsol.data.images import BadImage, decoded_size, read_image

SIZE = (160, 120)


def photo(kind: str = "JPEG", **options: object) -> bytes:
    """A picture with much to encode, as a file's bytes."""
    values = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(values).resize(SIZE).save(stream, kind, **options)
    return stream.getvalue()


def zeros_inside(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(1000) + data[middle + 1000 :]


def cut_and_ended(data: bytes) -> bytes:
    return data[: len(data) // 2] + b"\xff\xd9"


def marker_inside(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + b"\xff\xd9" + data[middle:]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"keep_rgb": True}])
@pytest.mark.parametrize("damage", [zeros_inside, cut_and_ended, marker_inside])
def test_damaged_jpegs_are_found_though_they_decode(tmp_path: Path, damage, options: dict) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(photo(quality=90, **options))
    assert decoded_size(file) == SIZE
    file.write_bytes(damage(photo(quality=90, **options)))
    assert read_image(file).shape == (*SIZE[::-1], 3)
    with pytest.raises(BadImage, match=r"a\.jpg: damaged, its pixels are partly wrong \(Corrupt JPEG data: .*\)"):
        decoded_size(file)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_whole_files_have_their_size(tmp_path: Path, kind: str, mode: str) -> None:
    Image.open(io.BytesIO(photo())).convert(mode).save(tmp_path / "a", kind)
    assert decoded_size(tmp_path / "a") == SIZE


def broken_images(root: Path) -> dict[str, bytes]:
    """Files that have a sound header and that training stops on, or sees wrongly."""
    stream = io.BytesIO()
    Image.new("F", SIZE).save(stream, "TIFF")
    files = {
        "cut.jpg": photo()[: len(photo()) // 2],
        "grey.jpg": cut_and_ended(photo()),
        "cut.png": photo("PNG")[: len(photo("PNG")) // 2],
        "float.tif": stream.getvalue(),
    }
    for name, content in files.items():
        (root / "train" / "cat" / name).write_bytes(content)
    return files


def test_verify_reads_the_pixels_of_small_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(tmp_path, boxes=None, splits=("train",))
    report = verify_source(partial(Folder, root))
    assert str(report).endswith("\nthe pixels of all 9 images were read\nno problems")
    files = broken_images(root)
    report = verify_source(partial(Folder, root))
    assert sorted(Path(problem.file).name for problem in report.problems) == sorted(files)
    headers = verify_source(partial(Folder, root), deep=False)
    assert headers.ok
    only = "only the headers of the 13 images were read; deep=true reads their pixels, too"
    assert str(headers).endswith(f"\n{only}\nno problems")
    monkeypatch.setattr(file_source, "READ_UP_TO", 12)
    assert only in str(verify_source(partial(Folder, root)))
    assert verify_source(partial(Folder, root), deep=True).total == 4


def test_verify_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_folder(tmp_path, boxes=None, splits=("train",))
    broken_images(root)
    words = ["data", "verify", "data=folder", f"data.root={root}"]
    assert main(words) == 2
    out = capsys.readouterr().out
    assert "4 problems:" in out
    assert "grey.jpg: damaged, its pixels are partly wrong" in out
    assert main([*words, "deep=false"]) == 0
    assert "deep=true reads their pixels" in capsys.readouterr().out


def test_verify_reads_the_pixels_of_masks(tmp_path: Path) -> None:
    make_openimages(tmp_path)
    mask = next((tmp_path / "images").rglob("*_m1.png"))
    mask.write_bytes(mask.read_bytes()[:45])
    report = verify_source(partial(OpenImages, tmp_path / "metadata", tmp_path / "images"))
    assert any(mask.name in problem.text for problem in report.problems)
    assert verify_source(partial(OpenImages, tmp_path / "metadata", tmp_path / "images"), deep=False).ok
