"""From archives, made as they are published, to verified datasets."""

from __future__ import annotations

import io
import json
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import make_cub, make_ilsvrc, make_tiny_imagenet, pack_nested_tar, pack_tar, pack_zip

from wsol.data.datasets.cub import CUB
from wsol.data.datasets.folder import Folder
from wsol.data.datasets.ilsvrc import ILSVRC
from wsol.data.datasets.tiny_imagenet import TinyImageNet
from wsol.data.prepare import archives
from wsol.data.prepare.archives import MARKER, Archive, unpack
from wsol.data.prepare.preparation import prepare
from wsol.errors import InputError

ANY = Archive("any.tar", md5="", prefix="top")


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != MARKER}


def tar_with(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_cub_is_unpacked_and_verified(tmp_path: Path) -> None:
    source = make_cub(tmp_path / "made")
    tgz = pack_tar(source, tmp_path / "CUB_200_2011.tgz", prefix="./CUB_200_2011/")
    report = prepare(CUB, [tgz], tmp_path / "data/CUB_200_2011")
    assert report.ok, str(report)
    assert report.counts["train"]["images"] == 6
    assert any("is not the published file: its md5 is" in note for note in report.notes)
    assert tree(tmp_path / "data/CUB_200_2011") == tree(source)


def test_tiny_imagenet_is_unpacked_and_verified(tmp_path: Path) -> None:
    source = make_tiny_imagenet(tmp_path / "made")
    archive = pack_zip(source, tmp_path / "tiny-imagenet-200.zip", prefix="tiny-imagenet-200/")
    assert prepare(TinyImageNet, [str(archive)], tmp_path / "data").ok
    assert tree(tmp_path / "data") == tree(source)


def test_ilsvrc_in_three_archives_and_two_runs(tmp_path: Path) -> None:
    source = make_ilsvrc(tmp_path / "made")
    train = pack_nested_tar(source / "train", tmp_path / "ILSVRC2012_img_train.tar")
    val = pack_tar(source / "val", tmp_path / "ILSVRC2012_img_val.tar")
    boxes = pack_tar(source / "Annotations/val", tmp_path / "ILSVRC2012_bbox_val_v3.tgz", prefix="val/")
    assert prepare(ILSVRC, [train], tmp_path / "data").counts.keys() == {"train"}
    report = prepare(ILSVRC, [val, boxes], tmp_path / "data")
    assert report.ok, str(report)
    assert report.counts["test"]["boxes"] == 12
    made = {name: data for name, data in tree(source).items() if name != "LOC_synset_mapping.txt"}
    assert tree(tmp_path / "data") == made


def test_a_faulty_dataset_is_reported(tmp_path: Path) -> None:
    source = make_cub(tmp_path / "made")
    next((source / "images").rglob("*.jpg")).unlink()
    report = prepare(CUB, [pack_tar(source, tmp_path / "CUB_200_2011.tgz", "CUB_200_2011/")], tmp_path / "data")
    assert [problem.text for problem in report.problems] == ["no such file"]
    assert f"remove {tmp_path / 'data' / MARKER} and run again" in report.notes[-1]


@pytest.mark.parametrize("kind", ["tgz", "zip"])
def test_an_archive_that_unpacks_to_far_more_than_it_is(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_bytes(bytes(8_000_000))
    path = tmp_path / f"any.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name in "abc":
                bundle.write(folder / name, f"top/{name}")
    else:
        pack_tar(folder, path, "top/")
    with pytest.raises(InputError, match=rf"any\.{kind}: unpacks to more than 100 times its own size"):
        unpack(path, ANY, tmp_path / "data")
    assert sum(len(data) for data in tree(tmp_path / "data").values()) <= 10_000_000


@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
def test_an_interrupted_unpack_goes_on(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_cub(tmp_path / "made")
    pack: Callable[[Path, Path, str], Path] = pack_zip if kind == "zip" else pack_tar
    path = pack(source, tmp_path / f"any.{kind}", "top/")
    written: list[str] = []
    write = archives._write

    def failing(member) -> bool:
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(member.target.name)
        return write(member)

    monkeypatch.setattr(archives, "_write", failing)
    with pytest.raises(KeyboardInterrupt):
        unpack(path, ANY, tmp_path / "data")
    monkeypatch.setattr(archives, "_write", write)
    assert len(tree(tmp_path / "data")) == 5
    assert unpack(path, ANY, tmp_path / "data") == len(tree(source)) - 5
    assert tree(tmp_path / "data") == tree(source)
    assert unpack(path, ANY, tmp_path / "data") == 0
    noted = json.loads((tmp_path / "data" / MARKER).read_text())["any.tar"]
    assert noted["size"] == path.stat().st_size
    path.touch()  # only the time differs: the checksum decides
    monkeypatch.setattr(archives, "_members", lambda *_: pytest.fail("was finished"))
    assert unpack(path, ANY, tmp_path / "data") == 0


def test_a_file_cut_off_by_a_crash_is_written_anew(tmp_path: Path) -> None:
    path = tar_with(tmp_path / "any.tar", ("top/a", b"whole"), ("top/b", b"whole"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_bytes(b"wh")
    assert unpack(path, ANY, tmp_path / "data") == 2
    assert tree(tmp_path / "data") == {"a": b"whole", "b": b"whole"}


@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
@pytest.mark.parametrize("damage", [slice(0, 100), slice(50, 51), slice(99, 100)])
def test_a_file_of_the_right_size_and_other_bytes_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, damage: slice
) -> None:
    """As a power loss leaves it, here in chunks of eight bytes."""
    monkeypatch.setattr(archives, "CHUNK", 8)
    (tmp_path / "made").mkdir()
    for name, size in (("a", 100), ("b", 100), ("empty", 0)):
        (tmp_path / "made" / name).write_bytes(bytes(range(1, size + 1)))
    pack: Callable[[Path, Path, str], Path] = pack_zip if kind == "zip" else pack_tar
    path = pack(tmp_path / "made", tmp_path / f"any.{kind}", "top/")
    assert unpack(path, ANY, tmp_path / "data") == 3
    (tmp_path / "data" / MARKER).unlink()
    content = bytearray((tmp_path / "data" / "b").read_bytes())
    content[damage] = bytes(len(content[damage]))
    (tmp_path / "data" / "b").write_bytes(content)
    assert unpack(path, ANY, tmp_path / "data") == 1
    assert tree(tmp_path / "data") == tree(tmp_path / "made")


def test_two_at_once(tmp_path: Path) -> None:
    """The second process is refused while the first one works, and finds all done afterwards."""
    source = make_cub(tmp_path / "made")
    tgz = pack_tar(source, tmp_path / "CUB_200_2011.tgz", prefix="CUB_200_2011/")
    refused = []

    def second(*_: object) -> None:
        if not refused:
            with pytest.raises(InputError, match="another `wsol data prepare` is filling this folder") as raised:
                prepare(CUB, [tgz], tmp_path / "data/cub")
            refused.append(raised)

    assert prepare(CUB, [tgz], tmp_path / "data/cub", progress=second).ok
    assert refused
    assert prepare(CUB, [tgz], tmp_path / "data/cub").ok


@pytest.mark.parametrize(
    "name", ["../out", "top/../../out", "/etc/out", "top/a/../../../out", "C:\\out", "top/..\\..\\out", "c:out"]
)
def test_members_that_would_land_outside_are_refused(tmp_path: Path, name: str) -> None:
    path = tar_with(tmp_path / "any.tar", (name, b"x"))
    with zipfile.ZipFile(tmp_path / "any.zip", "w") as bundle:
        bundle.writestr(name, b"x")
    for archive in (path, tmp_path / "any.zip"):
        with pytest.raises(InputError, match="would land outside"):
            unpack(archive, ANY, tmp_path / "data")
    assert not tree(tmp_path / "data")
    assert not list(tmp_path.rglob("out"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = tar_with(tmp_path / "any.tar", special("top/a", kind))
    with pytest.raises(InputError, match="member 'top/a' is a link or device; refused"):
        unpack(path, ANY, tmp_path / "data")


def test_links_in_zips_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("top/a")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "any.zip", "w") as bundle:
        bundle.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match="member 'top/a' is a link; refused"):
        unpack(tmp_path / "any.zip", ANY, tmp_path / "data")


def test_links_on_disk_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "data/a").symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match=r"'top/a/b' would follow a link out of"):
        unpack(tar_with(tmp_path / "any.tar", ("top/a/b", b"x")), ANY, tmp_path / "data")
    assert not tree(tmp_path / "other")


def test_members_of_nested_archives_are_held_to_the_same(tmp_path: Path) -> None:
    inner = tar_with(tmp_path / "inner.tar", ("../../out", b"x")).read_bytes()
    nested = Archive("any.tar", md5="", into="train", nested=True)
    with pytest.raises(InputError, match="would land outside"):
        unpack(tar_with(tmp_path / "any.tar", ("n1.tar", inner)), nested, tmp_path / "data")


def test_droppings_of_macos_are_passed_over(tmp_path: Path) -> None:
    path = tar_with(
        tmp_path / "any.tar", ("./._top", b"x"), ("top/._a", b"x"), ("top/.DS_Store", b"x"), ("top/a", b"x")
    )
    unpack(path, ANY, tmp_path / "data")
    assert tree(tmp_path / "data") == {"a": b"x"}


@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
@pytest.mark.parametrize("keep", [0, 10, 0.2, 0.5])
def test_damaged_archives(tmp_path: Path, kind: str, keep: float) -> None:
    pack: Callable[[Path, Path, str], Path] = pack_zip if kind == "zip" else pack_tar
    path = pack(make_cub(tmp_path / "made"), tmp_path / f"any.{kind}", "top/")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if keep < 1 else int(keep)])
    with pytest.raises(InputError, match=r"damaged or incomplete archive .*; download it again"):
        unpack(path, ANY, tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.part"))


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar_with(tmp_path / "any.tar", ("top/a", b"x"))
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(InputError, match=r"needs [\d,]+ bytes, [\d,]+ bytes are free"):
        unpack(path, ANY, tmp_path / "data")
    monkeypatch.undo()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    with pytest.raises(InputError, match="the disk filled up; free some space and run again"):
        unpack(path, ANY, tmp_path / "data")


def test_what_is_no_archive_of_the_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown archive 'CUB_200_2010\.tgz': did you mean 'CUB_200_2011\.tgz'"):
        prepare(CUB, ["CUB_200_2010.tgz"], tmp_path)
    with pytest.raises(InputError, match=r"CUB_200_2011\.tgz: no such archive"):
        prepare(CUB, [tmp_path / "CUB_200_2011.tgz"], tmp_path)
    with pytest.raises(InputError, match=r"no archive given; expected some of ILSVRC2012_img_train\.tar, "):
        prepare(ILSVRC, [], tmp_path)
    with pytest.raises(InputError, match=r"have no public address: register with the publisher"):
        prepare(ILSVRC, [], tmp_path, download=True)
    with pytest.raises(InputError, match=r"Folder has no published archives"):
        prepare(Folder, [], tmp_path)
