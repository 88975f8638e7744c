"""Maps as other programs save them."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from layouts import told
from PIL import Image

from wsol.data.source import FileSplit
from wsol.data.transforms import ResizeCrop
from wsol.errors import InputError
from wsol.functional.geometry import Geometry
from wsol.interop.map_folder import MapFolder, open_maps


def save(folder: Path, name: str, values: np.ndarray) -> Path:
    file = folder / f"{name}.npy"
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, values)
    return file


def split_of(ids: list[str], size: tuple[int, int] = (50, 40)) -> FileSplit:
    return FileSplit("val", ids, [0] * len(ids), None, ids, sizes=[size] * len(ids))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("maps")


def test_ids_are_paths_without_the_last_suffix(tmp_path: Path) -> None:
    for name in ("val2/0/0.jpeg", "val2/10/3.jpeg", "plain"):
        save(tmp_path, name, np.zeros((2, 3)))
    Image.new("L", (3, 2)).save(tmp_path / "grey.jpg.png")
    for other in ("notes.txt", ".hidden.npy", "classes.csv"):
        (tmp_path / other).write_text("x")
    (tmp_path / ".trash").mkdir()
    save(tmp_path / ".trash", "old", np.zeros((2, 3)))
    maps = open_maps(tmp_path)
    assert isinstance(maps, MapFolder)
    assert sorted(maps.ids) == ["grey.jpg", "plain", "val2/0/0.jpeg", "val2/10/3.jpeg"]
    assert maps.check(split_of(["plain", "val2/0/0.jpeg", "new"])) == (["new"], ["grey.jpg", "val2/10/3.jpeg"])


@given(
    values=hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.dtype(">f4"), np.uint8, np.int16]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    ),
    fortran=st.booleans(),
)
def test_arrays_are_read_as_saved(scratch: Path, values: np.ndarray, fortran: bool) -> None:
    shutil.rmtree(scratch / "any", ignore_errors=True)
    save(scratch / "any", "a", np.asfortranarray(values) if fortran else values)
    (read,), (geometry,) = open_maps(scratch / "any").read("a", (50, 40))
    np.testing.assert_array_equal(read, values)
    assert read.flags.c_contiguous
    assert read.dtype == (np.float32 if values.dtype in (np.float16, np.float32, np.dtype(">f4")) else np.float64)
    height, width = values.shape
    assert geometry == Geometry((50, 40), (width, height), (0, 0), (width, height))


@given(values=hnp.arrays(st.sampled_from([np.uint8, np.uint16]), (3, 5)))
def test_a_grey_png_is_its_share_of_white(scratch: Path, values: np.ndarray) -> None:
    shutil.rmtree(scratch / "png", ignore_errors=True)
    (scratch / "png").mkdir()
    Image.fromarray(values).save(scratch / "png/a.jpg.png")
    maps = open_maps(scratch / "png")
    (read,), _ = maps.read("a.jpg", (5, 3))
    white = np.iinfo(values.dtype).max
    np.testing.assert_array_equal(np.floor(read * white), values)  # no grey level is lost to rounding
    maps.check(split_of(["a.jpg"]))


@given(size=st.tuples(st.integers(1, 900), st.integers(1, 900)), side=st.integers(1, 30))
def test_a_crop_is_that_of_the_evaluation_transform(scratch: Path, size: tuple[int, int], side: int) -> None:
    shutil.rmtree(scratch / "crop", ignore_errors=True)
    save(scratch / "crop", "a", np.zeros((side, side)))
    _, geometries = open_maps(scratch / "crop", view="crop").read("a", size)
    assert list(geometries) == ResizeCrop(size=224, resize=256).views(size)


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode()
    length = len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + length + text + data


def pickled() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable npy file"),
        (b"\x93NUMPY", "not a readable npy file"),
        (b"PK\x03\x04 a zip", "not a readable npy file"),
        (pickled(), "expected real numbers, got dtype object"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", bytes(23)), "cut off: 23 bytes of a map"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), ", bytes(24)), "not a readable npy file"),
        (npy("{'descr': '<f4', 'shape': (2, 3), }", bytes(24)), "not a readable npy file"),
        (
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", bytes(12)),
            r"one map \(h, w\).*shape \(3,\)",
        ),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }", bytes(24)), r"got shape \(1, 2, 3\)"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), }"), r"got shape \(0, 3\)"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3), }", bytes(24)), r"got shape \(-2, -3\)"),
        (npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1, 1), }", bytes(8)), "got dtype complex64"),
        (npy("{'descr': '<U1', 'fortran_order': False, 'shape': (1, 1), }", bytes(4)), "got dtype <U1"),
        (npy("{'descr': '|b1', 'fortran_order': False, 'shape': (1, 1), }", bytes(1)), "got dtype bool"),
        (
            npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 1), }", bytes(4)),
            "expected real numbers",
        ),
        (
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), }", bytes(4), b"\x09\x09"),
            r"npy file \(version",
        ),
    ],
)
def test_faulty_arrays(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jpg.npy").write_bytes(content)
    maps = open_maps(tmp_path)
    for act in (lambda: maps.check(split_of(["a.jpg"])), lambda: maps.read("a.jpg", (50, 40))):
        with pytest.raises(InputError, match=rf"a\.jpg\.npy: .*{message}"):
            act()


@pytest.mark.parametrize("mode", ["RGB", "1", "P", "LA", "F"])
def test_pngs_that_are_no_maps(tmp_path: Path, mode: str) -> None:
    format = "TIFF" if mode == "F" else "PNG"
    Image.new(mode, (4, 4)).save(tmp_path / "a.png", format=format)
    maps = open_maps(tmp_path)
    with pytest.raises(InputError, match=r"a\.png: (expected a grey PNG of 8 or 16 bits|not a readable PNG)"):
        maps.check(split_of(["a"]))


def test_a_png_that_is_cut_off(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)).save(tmp_path / "a.png")
    file = tmp_path / "a.png"
    file.write_bytes(file.read_bytes()[:600])
    with pytest.raises(InputError, match=r"a\.png: not a readable PNG \(.*truncated"):
        open_maps(tmp_path).read("a", (4, 4))


@given(data=st.binary(max_size=200), at=st.integers(0, 80))
def test_garbage_is_told_and_nothing_else_raised(scratch: Path, data: bytes, at: int) -> None:
    folder = scratch / "garbage"
    folder.mkdir(exist_ok=True)
    good = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), }    ", bytes(4))
    for content in (data, good[:at] + data, good[:at] + data + good[at + len(data) :]):
        for suffix in ("npy", "png"):
            (folder / f"a.{suffix}").write_bytes(content)
            maps = MapFolder(folder)
            for act in (lambda maps=maps: maps.check(split_of(["a"])), lambda maps=maps: maps.read("a", (2, 2))):
                message = told(act)
                assert not message or f"a.{suffix}: " in message
            (folder / f"a.{suffix}").unlink()


def test_folders_that_hold_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder; expected a folder of maps"):
        open_maps(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no maps; expected maps-\*\.bin of `wsol eval`, or <id>\.npy or <id>\.png"):
        open_maps(tmp_path)
    save(tmp_path, "a.jpg", np.zeros((2, 2)))
    with pytest.raises(InputError, match="unknown view of maps 'crops': did you mean 'crop'"):
        open_maps(tmp_path, view="crops")
    with pytest.raises(InputError, match=r"no map of image 'b\.jpg'"):
        open_maps(tmp_path).read("b.jpg", (4, 4))
    with pytest.raises(InputError, match=r"a\.jpg\.npy: a map file does not contain its image's size"):
        open_maps(tmp_path).read("a.jpg")
    Image.new("L", (3, 2)).save(tmp_path / "a.jpg.png")
    with pytest.raises(InputError, match=r"a\.jpg\.png: a\.jpg\.npy is a map of the same image"):
        open_maps(tmp_path)
