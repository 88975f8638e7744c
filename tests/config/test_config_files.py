"""The user's own config files: what is wrong with one is told by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.layouts import told
from wsol.config import config_files
from wsol.config.compose import compose
from wsol.errors import InputError

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"defaults: [mine]\n", r"mine\.yaml: its defaults lead back to itself"),
        (b"defaults: [{/data: mine}]\n", r"mine\.yaml: its defaults lead back to itself"),
        (
            b"defaults: [other]\n",
            r"mine\.yaml: its defaults lead back to itself; give it another name .*mine.* -> .*other.* -> .*mine",
        ),
        (b"defaults: 5\n", r"mine\.yaml: defaults: expected a list such as \[base, _self_\], got 5"),
        (b"defaults: [{a: {b: 1}}]\n", r"mine\.yaml: defaults: expected a name or group: name, got \{'a'"),
        (b"defaults: [[a]]\n", r"mine\.yaml: defaults: expected a name or group: name"),
        (b"# a comment\nhello\n", r"mine\.yaml:2: expected a mapping \(key: value\), got a scalar"),
        (b"[1, 2]\n", r"mine\.yaml:1: expected a mapping \(key: value\), got a sequence"),
        (b"a: 1\nb: caf\xe9\n", r"mine\.yaml:2: not UTF-8 text"),
        (b"a: [1\nb: 2\n", r"mine\.yaml:\d: not valid YAML: expected ',' or ']'"),
        (b"a: !!python/object/apply:os.system [ls]\n", r"mine\.yaml:1: not valid YAML: could not determine a constr"),
        (b"a: \x00\n", r"mine\.yaml: not valid YAML: unacceptable character"),
        (b"a: &a [*a]\n", r"mine\.yaml: nested too deeply, or an alias is inside its own anchor; write it out"),
        (b"a: " + b"[" * 5000, r"mine\.yaml"),
        (BOMB.encode(), r"mine\.yaml: expands to more than 100,000 values with its aliases"),
        (
            b"_target_: ${nope\n",
            r"not a valid interpolation \(no viable alternative at input '\$\{nope'.*; expected \$\{key\}",
        ),
    ],
)
def test_a_faulty_file_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.yaml").write_bytes(content)
    (tmp_path / "data/other.yaml").write_text("defaults: [mine, _self_]\n")
    with pytest.raises(InputError, match=message):
        compose("train", ["data=mine"], [str(tmp_path)])


@pytest.mark.parametrize("content", [b"defaults: [creatures]\n", b"# caf\xe9\n", b"hello\n"])
def test_a_faulty_file_that_hides_a_shipped_one(tmp_path: Path, content: bytes) -> None:
    """No word chooses it, but the shipped configs do."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/creatures.yaml").write_bytes(content)
    message = told(lambda: compose("train", [], [str(tmp_path)]))
    assert not message or str(tmp_path) in message or "does not compose: " in message


def test_a_sound_file_is_composed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.yaml").write_text("defaults: [base, creatures, _self_]\nseed: 7\n")
    (tmp_path / "data/base.yaml").write_text("# nothing\n")
    assert compose("train", ["data=mine"], [str(tmp_path)]).data.seed == 7


def test_a_few_aliases_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: &a [1, 2]\nb: [*a, *a]\n")
    assert config_files.read_config(file) == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


@given(text=st.text(max_size=60) | st.text("[]{}:,&*!#'\" \nab-?|>", max_size=60))
def test_any_text_is_read_or_told(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text, encoding="utf-8", errors="ignore")
    message = told(lambda: config_files.read_config(file))
    assert not message or message.startswith(str(file))
