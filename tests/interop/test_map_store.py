"""The store of maps: what is written is read, within the stated error, and what is damaged is refused by name."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsol.data.source import FileSplit
from wsol.errors import InputError
from wsol.functional.geometry import Geometry
from wsol.interop.map_folder import open_maps
from wsol.interop.map_record import DTYPES
from wsol.interop.map_store import MapStore, MapWriter

SIZE = (50, 40)
VIEW = Geometry.square(SIZE, 28)
HEADER = {"split": "test", "data_fingerprint": "ab", "checkpoint_sha256": "cd"}

SIDES = st.integers(1, 9)
FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
FRAMES = st.tuples(st.integers(1, 2**14), st.integers(1, 2**14))


@st.composite
def views(draw: st.DrawFn) -> Geometry:
    """A view that shows at least one pixel of its image."""
    resized, seen = draw(FRAMES), draw(FRAMES)
    offset = tuple(draw(st.integers(1 - there, side - 1)) for side, there in zip(resized, seen, strict=True))
    return Geometry(draw(FRAMES), resized, offset, seen, draw(st.booleans()))


@st.composite
def records(draw: st.DrawFn, elements: st.SearchStrategy[float] = FLOATS) -> tuple[np.ndarray, list[Geometry]]:
    shape = draw(st.tuples(st.integers(1, 3), SIDES, SIDES))
    maps = draw(hnp.arrays(np.float32, shape, elements=elements))
    return maps, draw(st.lists(views(), min_size=len(maps), max_size=len(maps)))


def round_trip(folder: Path, maps: np.ndarray, geometries: list[Geometry], dtype: str) -> np.ndarray:
    shutil.rmtree(folder, ignore_errors=True)
    with MapWriter(folder, dtype=dtype, header=HEADER) as writer:
        writer.add("a/b.jpg", maps, geometries)
    read, told = MapStore(folder).read("a/b.jpg")
    assert read.dtype == np.float32
    assert told == tuple(geometries)
    return read


def some_maps(count: int, side: int = 7, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"{i % 3}/{i}.jpg": rng.normal(size=(1, side, side)).astype(np.float32) for i in range(count)}


def write(folder: Path, maps: dict[str, np.ndarray], shard: str = "0", dtype: str = "float32", **header: str) -> Path:
    with MapWriter(folder, dtype=dtype, header={**HEADER, **header}, shard=shard) as writer:
        for name, of_image in maps.items():
            writer.add(name, of_image, [VIEW] * len(of_image))
    return folder


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@given(record=records())
def test_float32_is_exact(scratch: Path, record) -> None:
    maps, geometries = record
    assert round_trip(scratch / "f4", maps, geometries, "float32").tobytes() == maps.tobytes()


@given(record=records(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_float16_errs_by_a_2048th_of_the_largest_magnitude(scratch: Path, record) -> None:
    maps, geometries = record
    read = round_trip(scratch / "f2", maps, geometries, "float16").astype(np.float64)
    for one, back in zip(maps.astype(np.float64), read, strict=True):
        assert np.abs(one - back).max() <= 2.0**-11 * np.abs(one).max()


@given(values=hnp.arrays(np.float16, (1, 4, 5), elements=st.floats(-100, 100, width=16, allow_subnormal=False)))
def test_maps_that_were_float16_stay_as_they_are(scratch: Path, values: np.ndarray) -> None:
    peak = np.abs(values).max()
    values = np.where(np.abs(values) >= peak * 2.0**-13, values, np.float16(0))
    read = round_trip(scratch / "was_f2", values, [VIEW], "float16")
    np.testing.assert_array_equal(read, values.astype(np.float32))


@given(record=records(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_uint8_errs_by_half_a_step_and_keeps_both_ends(scratch: Path, record) -> None:
    maps, geometries = record
    read = round_trip(scratch / "u1", maps, geometries, "uint8").astype(np.float64)
    for one, back in zip(maps.astype(np.float64), read, strict=True):
        low, high = one.min(), one.max()
        rounding = np.spacing(np.float32(max(abs(low), abs(high))))
        assert np.abs(one - back).max() <= (high - low) / 510 + rounding
        assert (back.min(), back.max()) == (low, high)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_survive(tmp_path: Path, dtype: str, odd: float) -> None:
    maps = np.arange(2 * 70 * 70, dtype=np.float32).reshape(2, 70, 70)
    maps[1, 3, 4] = odd
    np.testing.assert_array_equal(round_trip(tmp_path / "s", maps, [VIEW, VIEW], dtype), maps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.0, -3.25, 1e-40, 3e38])
def test_constant_maps_stay_what_they_are(tmp_path: Path, dtype: str, value: float) -> None:
    maps = np.full((1, 3, 4), value, np.float32)
    np.testing.assert_allclose(round_trip(tmp_path / "s", maps, [VIEW], dtype), maps, rtol=2**-11)


def test_auto_is_exact_up_to_64_by_64_and_small_beyond(tmp_path: Path) -> None:
    small, large = np.random.default_rng(0).random((2, 1, 64, 64), dtype=np.float32)
    large = np.tile(large, (1, 2, 1))
    write(tmp_path, {"small": small, "large": large}, dtype="auto")
    store = MapStore(tmp_path)
    np.testing.assert_array_equal(store.read("small")[0], small)
    assert 0 < np.abs(store.read("large")[0] - large).max() <= 1 / 510
    assert (tmp_path / "maps-0.bin").stat().st_size < 4 * 64 * 64 + 2 * 64 * 64 + 200


def test_fifty_thousand_maps_of_224_take_less_than_three_gigabytes(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((1, 224, 224), dtype=np.float32)
    folder = write(tmp_path, {f"val/ILSVRC2012_val_{i:08d}.JPEG": maps for i in range(20)}, dtype="uint8")
    assert sum(file.stat().st_size for file in folder.iterdir()) / 20 * 50_000 < 2.6e9


def test_reads_in_any_order_from_several_shards_and_threads(tmp_path: Path) -> None:
    maps = some_maps(30)
    names = list(maps)
    for rank in range(3):
        write(tmp_path, {name: maps[name] for name in names[rank::3]}, shard=str(rank))
    write(tmp_path, {}, shard="3")  # a process without images
    store = MapStore(tmp_path)
    assert sorted(store.ids) == sorted(names)
    assert len(store) == 30
    assert store.header == HEADER
    store.verify()
    asked = np.random.default_rng(1).permutation(names * 5).tolist()
    with ThreadPoolExecutor(4) as pool:
        for name, (read, geometries) in zip(asked, pool.map(store.read, asked), strict=True):
            np.testing.assert_array_equal(read, maps[name])
            assert geometries == (VIEW,)


def test_the_same_map_twice_is_one_and_two_maps_of_an_image_are_refused(tmp_path: Path) -> None:
    maps = some_maps(4)
    write(tmp_path / "a", maps)
    first = dict(list(maps.items())[:1])
    write(tmp_path / "a", first, shard="1")
    assert len(MapStore(tmp_path / "a")) == 4
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    write(tmp_path / "b", {name: values + 1 for name, values in first.items()}, shard="2")
    with pytest.raises(InputError, match=r"maps-2\.bin: maps of '0/0\.jpg' occur twice and differ"):
        MapStore(tmp_path / "b")


def test_the_size_of_an_image_is_checked(tmp_path: Path) -> None:
    store = MapStore(write(tmp_path, some_maps(2)))
    assert store.read("0/0.jpg", SIZE)[1] == (VIEW,)
    with pytest.raises(InputError, match=r"'0/0\.jpg' is of an image of 50 x 40, but the dataset's is of 40 x 50"):
        store.read("0/0.jpg", (40, 50))
    with pytest.raises(InputError, match="no map of image 'c'"):
        store.read("c")


def test_check_tells_missing_maps_strangers_and_other_sizes(tmp_path: Path) -> None:
    store = open_maps(write(tmp_path, some_maps(3)))
    assert isinstance(store, MapStore)
    ids = ["1/1.jpg", "new.jpg", "0/0.jpg"]
    split = FileSplit("test", ids, [0] * 3, None, ids, sizes=[SIZE] * 3)
    assert store.check(split) == (["new.jpg"], ["2/2.jpg"])
    split = FileSplit("test", ids, [0] * 3, None, ids, sizes=[SIZE, SIZE, (40, 50)])
    with pytest.raises(InputError, match=r"'0/0\.jpg' is of an image of 50 x 40"):
        store.check(split)


def test_an_interrupted_write_is_told_and_never_half_read(tmp_path: Path) -> None:
    def fail() -> None:
        with MapWriter(tmp_path, header=HEADER) as writer:
            writer.add("a", np.zeros((1, 2, 2)), [VIEW])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with pytest.raises(InputError, match=r"maps-0\.bin\.part: writing was interrupted or continues"):
        open_maps(tmp_path)
    write(tmp_path, some_maps(2), shard="1")
    with pytest.raises(InputError, match="interrupted"):
        MapStore(tmp_path)


def test_interrupted_between_its_two_files(tmp_path: Path) -> None:
    write(tmp_path, some_maps(2))
    (tmp_path / "maps-0.json").rename(tmp_path / "maps-0.json.part")
    with pytest.raises(InputError, match="interrupted"):
        open_maps(tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write(tmp_path, some_maps(1))
    before = (tmp_path / "maps-0.bin").read_bytes()
    for left in ((), ("maps-0.json",)):
        for name in left:
            (tmp_path / name).unlink()
        with pytest.raises(InputError, match="shard '0' of maps exists already"):
            MapWriter(tmp_path, header=HEADER)
    assert (tmp_path / "maps-0.bin").read_bytes() == before
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        MapWriter(tmp_path / "file", header=HEADER)


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown dtype of maps 'float61': did you mean 'float16'"):
        MapWriter(tmp_path, dtype="float61", header={})
    with pytest.raises(InputError, match=r"shard '\.\./0': expected letters and digits"):
        MapWriter(tmp_path, header={}, shard="../0")
    with MapWriter(tmp_path, header={}) as writer:
        for maps, views in ((np.zeros((2, 2)), 1), (np.zeros((2, 2, 2)), 1), (np.zeros((1, 0, 2)), 1)):
            with pytest.raises(InputError, match=r"a: expected maps \(V, h, w\) of 1 views, got shape"):
                writer.add("a", maps, [VIEW] * views)
    writer.close()
    assert len(MapStore(tmp_path)) == 0


def test_several_writers_at_once(tmp_path: Path) -> None:
    """As the processes of one run; the shards do not disturb each other."""
    maps = some_maps(40)
    names = list(maps)

    def work(rank: int) -> None:
        write(tmp_path, {name: maps[name] for name in names[rank::4]}, shard=str(rank))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = MapStore(tmp_path)
    assert all((store.read(name)[0] == maps[name]).all() for name in names)
