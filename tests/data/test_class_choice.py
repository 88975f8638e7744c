"""`data.classes` keeps some classes, in every reader."""

from __future__ import annotations

import inspect
import pydoc
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from layouts import make_cub, make_folder, make_ilsvrc, make_lists, make_openimages, make_tiny_imagenet, paint, write

from wsol.data.datasets.cub import CUB
from wsol.data.datasets.folder import Folder
from wsol.data.datasets.ilsvrc import ILSVRC
from wsol.data.datasets.openimages import OpenImages
from wsol.data.datasets.path_lists import PathLists
from wsol.data.datasets.random_splits import RandomSplits
from wsol.data.datasets.stanford40 import Stanford40
from wsol.data.datasets.tiny_imagenet import TinyImageNet
from wsol.data.datasets.wsolevaluation import WsolEvaluation
from wsol.data.file_source import ListedSource
from wsol.errors import InputError

ROOT = Path(__file__).parents[2]
EXPERIMENTS = [
    *(ROOT / "configs/experiment/cub6").glob("cam_*.yaml"),
    ROOT / "configs/experiment/tiny_imagenet50/cam_resnet18.yaml",
]


def stanford(root: Path) -> Path:
    for label, name in enumerate(("cooking", "reading", "running")):
        for part in ("train", "test"):
            images = [f"{name}_{part}{k}.jpg" for k in range(3)]
            write(root / "ImageSplits" / f"{name}_{part}.txt", images)
            for k, image in enumerate(images):
                paint(root / "JPEGImages" / image, label, k)
    return root


def path_lists(root: Path) -> Path:
    for part in ("train", "test"):
        images = [f"{name}/{part}{k}.jpg" for name in ("attic", "barn", "cave") for k in range(3)]
        write(root / f"{part}.txt", images)
        for k, image in enumerate(images):
            paint(root / image, k // 3, k)
    return root


READERS: dict[type, Callable[..., ListedSource]] = {
    Folder: lambda root, **key: Folder(root if root.exists() else make_folder(root), "boxes.csv", **key),
    CUB: lambda root, **key: CUB(root if root.exists() else make_cub(root), **key),
    TinyImageNet: lambda root, **key: TinyImageNet(root if root.exists() else make_tiny_imagenet(root), **key),
    ILSVRC: lambda root, **key: ILSVRC(root if root.exists() else make_ilsvrc(root), **key),
    Stanford40: lambda root, **key: Stanford40(root if root.exists() else stanford(root), **key),
    PathLists: lambda root, **key: PathLists(
        root if root.exists() else path_lists(root), ".", "train.txt", "test.txt", **key
    ),
    RandomSplits: lambda root, **key: RandomSplits(
        root if root.exists() else make_folder(root, boxes=None, splits=(), per_class=4), 2, **key
    ),
    WsolEvaluation: lambda root, **key: WsolEvaluation(
        (root if root.exists() else make_lists(root)) / "metadata", root / "images", **key
    ),
    OpenImages: lambda root, **key: OpenImages(
        (root if root.exists() else make_openimages(root)) / "metadata", root / "images", **key
    ),
}


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_some_classes_are_kept(reader: type, tmp_path: Path) -> None:
    everything = READERS[reader](tmp_path / "data")
    first, second, third = everything.classes
    some = READERS[reader](tmp_path / "data", classes=[third, first])  # the dataset's order counts
    assert some.classes == (first, third)
    assert some.splits == everything.splits
    for name in some.splits:
        all_of, kept = everything.split(name), some.split(name)
        old = [i for i, label in enumerate(all_of.labels) if label != 1]
        assert list(kept.ids) == [all_of.ids[i] for i in old]
        assert kept.labels.tolist() == [all_of.labels[i] // 2 for i in old]
        assert [kept.path(j) for j in range(len(kept))] == [all_of.path(i) for i in old]
        for j, i in enumerate(old):
            truths = kept.truth(j), all_of.truth(i)
            assert truths == (None, None) or (truths[0].boxes == truths[1].boxes).all()
            assert not kept.has_masks or (kept.mask(j) == all_of.mask(i)).all()
    report = some.verify()
    assert report.ok, str(report)
    assert not any("are not listed" in note for note in report.notes)
    (tmp_path / "names.txt").write_text(f"{second}\n\n{first}\n")
    assert READERS[reader](tmp_path / "data", classes=tmp_path / "names.txt").classes == (first, second)
    assert READERS[reader](tmp_path / "data", classes=[first.split()[0]]).classes == (first,)
    with pytest.raises(InputError, match=f"unknown class '{second[:-1]}~': did you mean"):
        READERS[reader](tmp_path / "data", classes=[f"{second[:-1]}~"])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], r"data\.classes=\[\]: no classes; name at least one"),
        (["cat", "dog", "cat"], r"data\.classes: 'cat' is named twice"),
        ("cat", r"data\.classes=cat: no such file; give a file with a name in each line"),
    ],
)
def test_faulty_choices_are_refused(classes: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        Folder(make_folder(tmp_path, boxes=None), classes=classes)


def test_classes_that_are_not_kept_need_not_be_there(tmp_path: Path) -> None:
    tiny, cub = make_tiny_imagenet(tmp_path / "tiny"), make_cub(tmp_path / "cub")
    gone = TinyImageNet(tiny).classes[0]
    shutil.rmtree(tiny / "train" / gone.split()[0])
    with pytest.raises(InputError, match="cannot be read"):
        TinyImageNet(tiny)
    assert TinyImageNet(tiny, classes=TinyImageNet(tiny, classes=[SECOND]).classes).classes == (SECOND_NAME,)
    shutil.rmtree(cub / "images" / "001.Bird_1")
    kept = CUB(cub, classes=["002.Bird_2", "003.Bird_3"])
    kept.check("train")
    assert kept.verify().ok


SECOND, SECOND_NAME = "n01698640", "n01698640 American alligator"


def test_every_config_of_a_reader_has_the_key() -> None:
    for path in sorted((ROOT / "configs/data").glob("*.yaml")):
        config = yaml.safe_load(path.read_text())
        target = pydoc.locate(config.get("_target_", ""))
        if isinstance(target, type) and issubclass(target, ListedSource):
            assert "classes" in inspect.signature(target).parameters, target
            assert config["classes"] is None, path


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_on_a_subset_name_its_classes(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    if "data" not in config:  # those of the experiment that it starts from
        path = ROOT / f"configs{config['defaults'][0]}.yaml"
        config = yaml.safe_load(path.read_text())
    classes = config["data"]["classes"]
    count = 6 if path.parent.name == "cub6" else 50
    assert len(set(classes)) == count
    assert all(isinstance(name, str) for name in classes)
