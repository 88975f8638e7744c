"""The layout of a table: its rows, its columns, and the metric of each cell.

::

    # CAM 2016, Table 2: localization error on the ILSVRC validation set.     first comment line: what `--help` prints
    title: ...
    source: Zhou et al., CVPR 2016 (arXiv 1512.04150), Table 2
    seeds: [0]                          # seeds of the wanted runs; runs with other seeds are used, too
    baseline: VGGnet-GAP                # the row that others are compared with, image by image; by default the first
    columns:
      top-1 loc: {metric: top1_error, protocol: cam2016, threshold: fixed}
      top-1 cls: {metric: top1_error, of: classification}
    rows:
      - label: VGGnet-GAP
        experiment: ilsvrc/cam_vgg16    # null: published numbers only
        overrides: []                   # further words of the command line
        regress: []                     # words for `wsol regress`, which then makes the run instead of `wsol train`
        published: cam2016/ilsvrc_val_localization_error/VGGnet-GAP      # one number a column, or by column:
        # published: {top-1 loc: cam2016/..., top-1 cls: [path, path]}   # several paths are summed
        differs: null                   # why measured and published cannot be compared, if they cannot
        classes: dpn131                 # evaluated with the classes of this classifier: `wsol eval classes=dpn131.csv`;
                                        # borrowed: of any classifier
        protocol: bas2022               # instead of the columns', if rows of one table are evaluated differently
        threshold: oracle
        about: {backbone: VGG-16}       # text about the row for the table's `attributes`: [backbone, ...];
                                        # protocol, threshold and source (how sure the numbers are) are filled in, and
                                        # whose classes were measured in ``classes``

A column may have its own ``experiment``, in which ``{name}`` stands for a row's field ``name`` (see choe2020).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from wsol.config.compose import config_root, groups
from wsol.config.search_path import own_folders
from wsol.errors import InputError, first_line, unknown
from wsol.tables.numbers import PROVENANCES, PublishedNumber, published

OPTIONAL = {"seeds", "notes", "baseline", "attributes", "shape"}
"""Optional keys of a table."""

OF = ("localization", "classification", "pixels")


METRICS = {
    "localization": r"gt_known_error|top\d+_error",
    "classification": r"top\d+_error",
    "pixels": r"PxAP|precision@[\d.]+|coverage@[\d.]+",
}
"""Patterns of the names in each section of results.json."""


@dataclass(frozen=True)
class Column:
    """The metric of a column."""

    metric: str
    """Key of the value in results.json, such as ``top1_error``."""
    of: str = "localization"
    """Section of results.json: one of `OF`."""
    protocol: str | None = None
    """Protocol of the published number, for localization."""
    threshold: str | None = None
    """Origin of the threshold: ``fixed``, ``pseudo``, ``fullsup``, ``oracle``, or ``none`` of boxes without a map."""
    accuracy: bool = False
    """Whether the number is published, and therefore shown, as 100 minus the error."""
    split: str = "test"
    experiment: str | None = None
    """Experiment of the column, instead of the row's."""


@dataclass(frozen=True)
class Cell:
    """One number of a table."""

    row: str
    name: str
    """Name of the column."""
    column: Column
    experiment: str | None
    overrides: tuple[str, ...]
    published: PublishedNumber | None
    differs: str | None
    classes: str | None = None
    """Name of the classifier whose classes replace the network's own; ``borrowed``: any."""
    regress: tuple[str, ...] = ()
    """What `wsol regress` makes the run with, beside the words of `wsol train`; empty if `wsol train` makes it."""


@dataclass(frozen=True)
class Layout:
    """A table."""

    title: str
    source: str
    columns: Mapping[str, Column]
    cells: tuple[Cell, ...]
    """All cells, row by row."""
    seeds: tuple[int, ...] = (0,)
    notes: tuple[str, ...] = field(default=())
    attributes: tuple[str, ...] = ()
    """Names of the text columns before a row's numbers."""
    about: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Texts by label of the row, then by attribute."""
    shape: str | None = None
    """Its shape on the terminal, ``wide`` or ``long``; None: the terminal's default."""
    baseline: str | None = None
    """Label of the row that others are compared with; None: the first."""
    file: Path | None = None
    """Where it was read, for messages."""

    @property
    def rows(self) -> list[str]:
        """Return the labels of the rows, in order."""
        return list(dict.fromkeys(cell.row for cell in self.cells))


def find_layout(name: str, config_dirs: Iterable[str] = ()) -> Path:
    """Return the file of a table.

    Raises:
        InputError: there is none; the message lists the tables.
    """
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise InputError(f"{name}: no such file")
        return Path(name)
    for root in (*own_folders(config_dirs), config_root()):
        if (file := root.expanduser() / "table" / f"{name}.yaml").is_file():
            return file
    raise unknown("table", name, groups(tuple(config_dirs)).get("table", ()))


def read_layout(file: Path) -> Layout:
    """Read a table's file.

    Raises:
        InputError: no YAML, an unknown or missing key, or an unknown published number; the message names the file.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise InputError(f"{file}: unreadable (nested too deeply); expected a table in YAML") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{file}: unreadable ({' '.join(str(error).split())}); expected a table in YAML") from error
    try:
        return replace(_layout(content), file=file)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{file}: {first_line(error)}; expected title, source, columns and rows") from error


def _layout(content: Any) -> Layout:
    _check(content, {"title", "source", "columns", "rows"}, OPTIONAL, "the table")
    columns = {str(name): _column(str(name), node) for name, node in content["columns"].items()}
    cells = [cell for row in content["rows"] for cell in _cells(row, columns)]
    attributes = tuple(map(str, content.get("attributes", ())))
    about = {str(row["label"]): _about(row, attributes, cells) for row in content["rows"]}
    labels = [row["label"] for row in content["rows"]]
    if double := sorted({label for label in labels if labels.count(label) > 1}):
        raise InputError(f"two rows are called {double[0]!r}; labels must differ")
    seeds = tuple(int(seed) for seed in content.get("seeds", (0,)))
    if not seeds:
        raise InputError("seeds: expected at least one, such as [0]")
    notes = tuple(map(str, content.get("notes", ())))
    baseline = content.get("baseline")
    if baseline is not None and baseline not in labels:
        raise unknown("baseline", str(baseline), map(str, labels))
    if (shape := content.get("shape")) not in (None, "wide", "long"):
        raise unknown("shape", str(shape), ("wide", "long"))
    titled = str(content["title"]), str(content["source"]), columns, tuple(cells), seeds, notes
    return Layout(*titled, attributes, about, shape, baseline)


def _about(row: Mapping[str, Any], attributes: tuple[str, ...], cells: Iterable[Cell]) -> dict[str, str]:
    """Return the texts about a row; its protocol, threshold and provenance are filled in."""
    found = {cell.published.provenance for cell in cells if cell.row == str(row["label"]) and cell.published}
    source = max(found, key=PROVENANCES.index, default=None)
    known = {"protocol": row.get("protocol"), "threshold": row.get("threshold"), "source": source}
    given = {**known, **(row.get("about") or {})}
    for name in row.get("about") or {}:
        if name not in attributes:
            raise unknown(f"`about` of row {row['label']!r}", str(name), attributes)
    return {name: str(given[name]) for name in attributes if given.get(name) is not None}


def _column(name: str, node: Mapping[str, Any]) -> Column:
    _check(node, {"metric"}, {each.name for each in fields(Column)}, f"column {name!r}")
    column = Column(**node)
    if column.of not in OF:
        raise unknown(f"`of` in column {name!r}", column.of, OF)
    if not isinstance(column.metric, str) or not re.fullmatch(METRICS[column.of], column.metric):
        raise InputError(
            f"column {name!r}: metric={column.metric}: results.json has no such name in its {column.of}; expected "
            f"{METRICS[column.of].replace('|', ', ')}"
        )
    return column


def _cells(row: Mapping[str, Any], columns: Mapping[str, Column]) -> list[Cell]:
    where = f"row {row.get('label')!r}"
    own = {"experiment", "overrides", "published", "differs", "classes", "protocol", "threshold", "about", "regress"}
    templates = [column.experiment for column in columns.values() if column.experiment]
    extra = {key for key in row if any(f"{{{key}}}" in template for template in templates)}
    _check(row, {"label"}, own | extra, where)
    numbers = _published(row.get("published"), list(columns), where)
    made = []
    for name, column in columns.items():
        experiment = row.get("experiment")
        if column.experiment and extra:
            experiment = column.experiment.format(**{key: row[key] for key in extra})
        words = tuple(map(str, row.get("overrides", ())))
        if experiment is None and (absent := [key for key in ("overrides", "regress") if row.get(key)]):
            raise InputError(f"{where}: {absent[0]} without an experiment; give both or neither")
        rest = numbers[name], row.get("differs"), row.get("classes"), tuple(map(str, row.get("regress", ())))
        if column.of == "localization":
            evaluated = {key: row.get(key) or getattr(column, key) for key in ("protocol", "threshold")}
            column = replace(column, **evaluated)
            if experiment is not None and None in evaluated.values():
                raise InputError(
                    f"column {name!r}, {where}: localization needs protocol and threshold (fixed, pseudo, fullsup, "
                    "oracle, or none)"
                )
        made.append(Cell(str(row["label"]), name, column, experiment, words, *rest))
    return made


def _published(node: Any, columns: list[str], where: str) -> dict[str, PublishedNumber | None]:
    """Return the published numbers of a row by column."""
    if node is None:
        return dict.fromkeys(columns)
    if isinstance(node, Mapping):
        if wrong := [str(name) for name in node if name not in columns]:
            raise unknown(f"column in `published` of {where}", wrong[0], columns)
        paths = {name: [node[name]] if isinstance(node[name], str) else node[name] for name in node}
        return {name: published(*paths[name]) if name in paths else None for name in columns}
    found = published(node)
    values = found.value if isinstance(found.value, list) else [found.value]
    if len(values) != len(columns):
        raise InputError(f"{where}: {node} has {len(values)} numbers for {len(columns)} columns; name them by column")
    pairs = zip(columns, values, strict=True)
    return {name: None if value is None else PublishedNumber(value, found.provenance) for name, value in pairs}


def _check(node: Any, needed: set[str], allowed: set[str], where: str) -> None:
    if not isinstance(node, Mapping):
        raise InputError(f"{where}: expected a mapping, got {node!r}")
    for key in node:
        if key not in needed | allowed:
            raise unknown(f"key in {where}", str(key), needed | allowed)
    if missing := sorted(needed - set(node)):
        raise InputError(f"{where}: needs {', '.join(missing)}")
