"""Every dataset's YAML names a class and its options by their right names and defaults."""

from __future__ import annotations

import inspect
import pydoc
from pathlib import Path

import pytest
import yaml

from wsol.data.source import Source

CONFIGS = sorted((Path(__file__).parents[2] / "configs/data").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_options_are_those_of_the_class(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    first = text.split("\n", 1)[0]
    assert first.startswith("# ")
    options = yaml.safe_load(text)
    target = options.get("_target_")
    if target is None:  # a variant that builds on another choice by its defaults list
        assert "defaults" in options
        return
    source = pydoc.locate(target)
    assert isinstance(source, type)
    assert issubclass(source, Source)
    parameters = inspect.signature(source).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, value in options.items():
        if not name.startswith("_") and name != "defaults":
            assert name in parameters or open_ended
            if value is None and name in parameters:
                assert parameters[name].default is None
