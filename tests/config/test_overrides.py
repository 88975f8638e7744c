"""Values of a command line count as written; what commas separate is several jobs of a multirun."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsol.config.compose import compose
from wsol.config.overrides import as_written, jobs
from wsol.errors import InputError

NAMES = [
    "photos (2024)",
    "鸟",
    "a,b.jpg",
    "photos [2024]",
    "[old]",
    "epoch=0-step=2.ckpt",
    "it's",
    "50 % #1 {x}",
    "Fotos für Oma, 2",
    "back\\slash",
    "2026_01",
    "007",
    "choice(a)",
    "a$b",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["images", "run", "out", "boxes"])
def test_a_path_is_taken_as_it_is_written(key: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("")
    for word in (f"{key}={name}", f"{key}=./{name}", f"{key}={tmp_path}/{name}"):
        assert compose("predict", [word])[key] == word.partition("=")[2]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "choice(a)"])
def test_a_folder_that_is_to_be_made_needs_no_quotes_either(name: str) -> None:
    assert compose("eval", [f"out=new/{name}"]).out == f"new/{name}"
    assert compose("train", ["data=folder", f"data.root=x/{name}"]).data.root == f"x/{name}"
    assert compose("train", [as_written(as_written(f"run_dir={name}", texts={"run_dir"}))]).run_dir == name


def test_lists_have_elements_as_written() -> None:
    found = compose("predict", ["images=[my drive (1)/x.jpg,鸟.jpg, 3.png]"]).images
    assert list(found) == ["my drive (1)/x.jpg", "鸟.jpg", "3.png"]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("seed=3", 3),
        ("label_smoothing=1e-1", 0.1),
        ("topk=[1,3]", [1, 3]),
        ("image_size=null", None),
        ("name='a b'", "a b"),
    ],
)
def test_numbers_lists_and_quoted_texts_are_these(word: str, value: object) -> None:
    assert compose("train", [word])[word.partition("=")[0]] == value


def test_an_interpolation_is_one() -> None:
    config = compose("train", ["data=folder", "data.root=${data_dir}/my (1)", "data_dir=d"])
    assert config.data.root == "d/my (1)"


@pytest.mark.parametrize("word", ["seed=0,1", "optim.optimizer.lr=0.1,0.01", "seed=range(0,3)"])
def test_several_values_are_refused_outside_of_a_multirun(word: str) -> None:
    with pytest.raises(InputError, match="add -m"):
        compose("train", [word])


def test_the_jobs_of_a_multirun_are_all_combinations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a,b.jpg").write_text("")
    known = {"backbone": ["tiny", "vgg16", "tinier"]}
    found = jobs(["images=a,b.jpg,c (1)", "seed=range(0,2)", "topk=[1],[1,5]", "backbone=glob(t*)"], known)
    assert len(found) == 16
    assert found[0] == ["images='a,b.jpg'", "seed=0", "topk=[1]", "backbone=tinier"]
    assert {job[0] for job in found} == {"images='a,b.jpg'", "images='c (1)'"}
    assert jobs(["out=x (1, 2),y"], {}) == [["out='x (1, 2)'"], ["out=y"]]
    with pytest.raises(InputError, match="wsol sweep"):
        jobs(["seed=interval(0,1)"], {})
