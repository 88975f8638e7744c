"""A key that nothing reads is refused, wherever it is written, and what a message suggests exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsol.config.compose import compose
from wsol.errors import InputError


@pytest.mark.parametrize("key", ["foo", "method.foo", "optim.foo", "transform.foo"])
def test_an_added_key_that_nothing_reads_is_refused(key: str) -> None:
    with pytest.raises(InputError, match=f"^{key}: nothing reads this key; "):
        compose("train", [f"+{key}=1"])


def test_a_misspelt_key_of_ones_own_method_is_refused(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("# Mine.\ndefaults: [cam, _self_]\nbatch_transform: []\n")
    with pytest.raises(InputError, match=r"method\.batch_transform: .*did you mean 'batch_transforms'"):
        compose("train", ["method=mine"], [str(tmp_path)])


@pytest.mark.parametrize("group", ["data", "transform", "loader", "backbone", "method", "optim", "schedule", "trainer"])
def test_a_training_needs_all_of_its_parts(group: str) -> None:
    with pytest.raises(InputError, match=f"^{group}: a training needs"):
        compose("train", [f"~{group}"])


@pytest.mark.parametrize(
    ("verb", "word", "message"),
    [
        ("eval", "explainer=null", "^explainer=null: expected a choice of this group; .*gradcam"),
        ("train", "optim=null", "^optim=null: expected a choice of this group; .*adamw"),
        ("eval", "explainer.layer=late", "'explainer.layer': no explainer is chosen .*add explainer="),
        ("eval", "data.masks=masks", "'data.masks': no data is chosen .*add data="),
        ("train", "lr=1", "did you mean .*'optim.optimizer.lr'"),
        ("train", "epochs=1", "did you mean 'trainer.max_epochs'"),
        ("train", "seed=a", "^seed=a: expected a whole number$"),
        ("train", "topk=1", r"^topk=1: expected a list of whole numbers, such as \[1,5\]$"),
        ("eval", "batch_size=x", "^batch_size=x: expected a whole number, or null$"),
    ],
)
def test_a_wrong_word_is_told_with_its_remedy(verb: str, word: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compose(verb, [word])
