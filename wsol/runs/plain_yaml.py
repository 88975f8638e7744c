"""Recorded configs, read as plain data: no tags, aliases or interpolations, and limits that no run reaches.

A folder of runs may contain files of other programs and other people. Reading one must neither run code nor take longer
than its size warrants, so the document is built from libyaml's events, one after another.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.resolver import BaseResolver

from wsol.data.regular_files import open_regular
from wsol.errors import InputError, first_line

MAX_BYTES = 4 * 2**20
MAX_DEPTH = 64

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser if PyYAML was built with it: ten times as fast."""


class _Loader(_Base):
    """Scalars as OmegaConf reads them: ``1e-4`` is a number, and a date is a string."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in _Base.yaml_implicit_resolvers.items()
    }


_FLOAT = r"^[-+]?([0-9][0-9_]*)(\.[0-9_]*)?[eE][-+]?[0-9]+$"
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(_FLOAT), list("-+0123456789."))


class _BadYaml(ValueError):
    """A document that is refused, with the reason."""


def read_mapping(file: Path) -> tuple[dict[str, Any], bytes]:
    """Read a YAML file that contains a mapping of plain data.

    Returns:
        The mapping, with keys as strings, and the bytes of the file.

    Raises:
        InputError: no such file, not readable, too large, not a mapping, or some value is not plain data.
    """
    try:
        with open_regular(file) as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise _BadYaml(f"larger than {MAX_BYTES >> 20} MB")
        return parse_mapping(content.decode("utf-8")), content
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or first_line(error)
        raise _unreadable(file, f"{problem}{line}") from error
    except (OSError, ValueError, OverflowError) as error:
        raise _unreadable(file, first_line(error)) from error


def _unreadable(file: Path, why: str) -> InputError:
    return InputError(f"{file}: unreadable ({why}); expected the config that a run recorded")


def parse_mapping(text: str) -> dict[str, Any]:
    """Return the mapping in a YAML document.

    Raises:
        ValueError: it contains something else, or some value is not plain data.
        yaml.YAMLError: it is not YAML.

    Example:
        >>> parse_mapping("a: {b: [1, 1e-4, yes, 2020-01-01, null]}")
        {'a': {'b': [1, 0.0001, True, '2020-01-01', None]}}
        >>> parse_mapping("a: &x 1")
        Traceback (most recent call last):
        ...
        wsol.runs.plain_yaml._BadYaml: line 1: an anchor or alias, which recorded configs never have
    """
    loader = _Loader(text)
    try:
        found = _documents(loader)
    finally:
        loader.dispose()
    if not found or found[0] is None:
        raise _BadYaml("the file is empty")
    if len(found) > 1:
        raise _BadYaml("several documents in one file")
    if not isinstance(found[0], dict):
        raise _BadYaml("expected a mapping")
    return found[0]


def _documents(loader: Any) -> list[Any]:
    documents: list[Any] = []
    open_nodes: list[_Node] = []
    while loader.check_event():
        event = loader.get_event()
        if isinstance(event, yaml.NodeEvent):
            _refuse_what_is_not_plain(event)
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if len(open_nodes) == MAX_DEPTH:
                raise _BadYaml(f"line {event.start_mark.line + 1}: nested deeper than {MAX_DEPTH} levels")
            open_nodes.append(_Node(isinstance(event, yaml.MappingStartEvent)))
            continue
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(loader, event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            value = open_nodes.pop().value
        else:
            continue
        if open_nodes:
            open_nodes[-1].add(value, event)
        else:
            documents.append(value)
    return documents


class _Node:
    """A mapping or a list that is incomplete."""

    def __init__(self, is_mapping: bool) -> None:
        self.value: Any = {} if is_mapping else []
        self._key: str | None = None

    def add(self, value: Any, event: yaml.Event) -> None:
        line = event.start_mark.line + 1
        if isinstance(self.value, list):
            self.value.append(value)
        elif self._key is not None:
            self.value[self._key] = value
            self._key = None
        elif isinstance(value, dict | list):
            raise _BadYaml(f"line {line}: a key that is not a string")
        elif (key := str(value)) in self.value:
            raise _BadYaml(f"line {line}: the key {key!r} occurs twice")
        else:
            self._key = key


def _refuse_what_is_not_plain(event: yaml.NodeEvent) -> None:
    line = f"line {event.start_mark.line + 1}"
    if event.anchor is not None:
        raise _BadYaml(f"{line}: an anchor or alias, which recorded configs never have")
    if getattr(event, "tag", None) not in (None, "!"):
        raise _BadYaml(f"{line}: the tag {event.tag}, which recorded configs never have")


def _scalar(loader: Any, event: yaml.ScalarEvent) -> Any:
    if "${" in event.value:
        raise _BadYaml(f"line {event.start_mark.line + 1}: an interpolation (${{...}}); recorded configs are resolved")
    tag = loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    if tag == BaseResolver.DEFAULT_SCALAR_TAG:
        return event.value
    return loader.construct_object(yaml.ScalarNode(tag, event.value, event.start_mark), deep=True)
