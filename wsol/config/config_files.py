"""Checks of the user's config files before Hydra reads them: Hydra would report less, or never end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from wsol.config.construct import locate
from wsol.data.regular_files import read_regular
from wsol.errors import InputError

MOST_VALUES = 100_000
"""A config file that expands to more values than this, counting aliases, is refused."""


OLD_TRANSFORM = "/transform@_global_.transform"
"""A key in ``defaults`` of datasets before `configs/train.yaml` itself chose a transform."""


def check_files(chosen: Iterable[tuple[str, str]], folders: Sequence[Path]) -> None:
    """Refuse chosen config files that cannot be read, and those that they name in ``defaults``.

    Args:
        chosen: group and choice of each.
        folders: config folders other than the shipped one, which is not checked; in search order.

    Raises:
        InputError: names the file, and the line if there is one.
    """
    done: set[Path] = set()
    for group, choice in chosen:
        _follow(f"{group}/{choice}", folders, (), done)


def _follow(name: str, roots: Sequence[Path], above: tuple[Path, ...], done: set[Path]) -> None:
    """Check the user's file with a name such as ``data/mine`` and the files that its ``defaults`` name."""
    file = next((root / f"{name}.yaml" for root in roots if (root / f"{name}.yaml").exists()), None)
    if file is None or file in done:
        return
    if file in above:
        way = " -> ".join(str(path) for path in (*above[above.index(file) :], file))
        raise InputError(f"{file}: its defaults lead back to itself; give it another name than its base has ({way})")
    for other in _defaults(read_config(file), file, name.rpartition("/")[0]):
        _follow(other, roots, (*above, file), done)
    done.add(file)


def read_config(file: Path) -> dict[str, Any]:
    """Read a YAML file that contains a mapping, or nothing.

    Raises:
        InputError: not UTF-8, not YAML, not a mapping, or more than `MOST_VALUES` values.
    """
    try:
        text = read_regular(file).decode()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and not isinstance(node, yaml.MappingNode):
            line = node.start_mark.line + 1
            raise InputError(f"{file}:{line}: expected a mapping (key: value), got a {node.id}; indent or name it")
        if node is None:
            return {}
        if _values(node, {}) > MOST_VALUES:
            raise InputError(f"{file}: expands to more than {MOST_VALUES:,} values with its aliases")
        content: dict[str, Any] = yaml.safe_load(text)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{file}:{line}: not UTF-8 text; save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(
            f"{file}:{mark.line + 1 if mark else 1}: not valid YAML: {error.problem}; fix that line"
        ) from error
    except RecursionError:
        raise InputError(f"{file}: nested too deeply, or an alias is inside its own anchor; write it out") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file}: not valid YAML: {' '.join(str(error).split())}; fix that place") from error
    return content


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of values in a node; those of an alias count wherever it occurs."""
    if id(node) not in known:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_values(part, known) for part in inner)
    return known[id(node)]


def _defaults(content: Mapping[str, Any], file: Path, group: str) -> Iterator[str]:
    """Yield names, such as ``data/mine``, of the files in a config's ``defaults``."""
    defaults = content.get("defaults", [])
    if not isinstance(defaults, list):
        raise InputError(f"{file}: defaults: expected a list such as [base, _self_], got {defaults!r:.80}")
    for entry in defaults:
        pairs = list(entry.items()) if isinstance(entry, dict) else [(None, entry)]
        for key, value in pairs:
            choices = value if isinstance(value, list) and key is not None else [value]
            if len(pairs) != 1 or not all(isinstance(choice, str | int | None) for choice in choices):
                raise InputError(f"{file}: defaults: expected a name or group: name, got {entry!r:.80}")
            if key == OLD_TRANSFORM:
                raise InputError(f"{file}: defaults: write `override {key}: {value}`, or nothing for `square`")
            where = group if key is None else _group(str(key), group)
            for choice in (str(choice).partition("@")[0] for choice in choices if choice is not None):
                if choice != "_self_":
                    yield choice.removeprefix("/") if choice.startswith("/") else f"{where}/{choice}".removeprefix("/")


def _group(key: str, inside: str) -> str:
    """Return the group that a key of ``defaults`` means, in a file of the group ``inside``."""
    name = key.split()[-1].partition("@")[0] if key.split() else ""
    return name.removeprefix("/") if name.startswith("/") else f"{inside}/{name}"


TARGETS = {
    "backbone": "backbone",
    "callbacks": "callbacks.{choice}",
    "data": "data",
    "explainer": "explainer",
    "logger": "logger",
    "method": "method.head",
    "protocol": "protocol.{choice}",
}
"""Keys that name the class of a group's choice."""


def check_composed(config: DictConfig, chosen: Iterable[tuple[str, Any]], folders: Sequence[Path]) -> None:
    """Refuse a config with a part from one of ``folders`` that names no class, or a class that cannot be imported.

    Args:
        config: composed config.
        chosen: group and choice of each.
        folders: see `check_files`.

    Raises:
        InputError: names the file and the key.
    """
    for group, choice in chosen:
        file = next((file for root in folders if (file := root / group / f"{choice}.yaml").is_file()), None)
        if file is not None and group in TARGETS:
            _check_target(config, TARGETS[group].format(choice=choice), file)


def _check_target(config: DictConfig, where: str, file: Path) -> None:
    """Check that the ``_target_`` at a key can be imported."""
    name = OmegaConf.select(config, f"{where}._target_")
    if name is None and where.startswith(("protocol.", "callbacks.")):
        raise InputError(f"{file}: no {where}._target_; the file's first line is `# @package {where}`")
    if name is None:
        key = "_target_" if "." not in where else f"{where.partition('.')[2]}._target_"
        raise InputError(f"{file}: no {key}; set it to a class, such as {key}: my_package.mine.Mine")
    try:
        locate(name, where)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
