"""Output on the screen: log lines and tables."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bars
from rich.progress import TaskID
from rich.table import Table

from wsol import runs
from wsol.config.trainer_warnings import LOGGERS, ignore_intended
from wsol.runs.results import LOCALIZER

if TYPE_CHECKING:
    from wsol.types import Progress

WIDTH = 118
"""Width of output to a file or a pipe, in columns."""

STDERR = Console(stderr=True)


def start_logging() -> None:
    """Log the package's messages to standard error; of Lightning, only warnings."""
    logger = logging.getLogger("wsol")
    logger.setLevel(logging.INFO if runs.is_first_process() else logging.WARNING)
    for old in [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]:
        logger.removeHandler(old)  # it writes to the standard error of an earlier call
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    quiet_lightning()
    ignore_intended()


def quiet_lightning() -> None:
    """Show only warnings of Lightning, which sets its own level when it is imported."""
    import pytorch_lightning  # noqa: F401

    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Show progress bars on standard error, one per task, from its first report until its end."""
    bars = Bars(console=STDERR, transient=True)
    tasks: dict[str, TaskID] = {}

    def show(what: str, done: int, total: int) -> None:
        """Update the bar of a task, or add one."""
        if not tasks:
            bars.start()
        if what not in tasks:
            tasks[what] = bars.add_task(escape(what), total=total)
        bars.update(tasks[what], completed=done, total=total)

    try:
        yield show
    finally:
        if tasks:
            bars.stop()


def warn(message: str) -> None:
    """Print a line on standard error, above the bars if there are any."""
    STDERR.print(f"wsol: {message}", style="red", soft_wrap=True, markup=False)


def console() -> Console:
    """Return a console on standard output, of fixed width for a file or a pipe."""
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)


def pseudo_targets(folder: Path) -> None:
    """Print what a folder of pseudo targets holds, and whether human boxes had a part in it."""
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    human = "[bold]human boxes were used[/bold]" if about["human_boxes"] else "no human box was used"
    threshold = "none" if about["threshold"] is None else f"{about['threshold']:.6g}"
    console().print(
        f"{folder}: {about['kind']} of {about['images']:,} training images ({about['whole_images']:,} of them the "
        f"whole image); {about['protocol']}, threshold {threshold} ({about['threshold_origin']}); {human}"
    )


def results(file: Path) -> None:
    """Print the tables of a results.json."""
    content = json.loads(file.read_text(encoding="utf-8"))
    out = console()
    evaluated = next(reversed(content["classification"]), "train")
    counted = content["data"]["splits"][evaluated]
    images = f"{counted['images']:,} images"
    if counted["boxes"] and counted.get("images_with_boxes", counted["images"]) < counted["images"]:
        images += f", {counted['images_with_boxes']:,} of them with boxes"
    seed = "" if content["seed"] is None else f", seed {content['seed']}"
    classes = f", classes of {content['classes']['name']}" if "classes" in content else ""
    out.print(f"\n[bold]{content['name']}[/bold]{seed}, {evaluated} split ({images}){classes}")
    rows = [row for row in content["localization"] if row["split"] == evaluated]
    if rows:
        out.print(localization_table(rows))
    else:
        out.print("localization: not evaluated, because there are no boxes")
    if content.get("error_kinds"):
        out.print(error_kinds(content["error_kinds"]))
    if "against" in content:
        out.print(differences(content["against"]["differences"]))
    if about := content.get("explainer"):
        out.print(f"explainer: {', '.join(f'{key} {value}' for key, value in about.items())}")
    for split, values in content["classification"].items():
        if values:
            out.print(f"classification error, {split}{classes}: {_percent(values)}")
    for split, found in content.get("recognition", {}).items():
        values = ", ".join(f"{_label(k)} {found[k]:.2f} % (gain {gain:+z.2f})" for k, gain in found["gain"].items())
        out.print(f"classification error by {found['how']}, {split}: {values}")
    for split, values in content["pixels"].items():
        out.print(f"pixels against masks, {split}: {_percent(values)}")
    for split, ids in content["skipped_images"].items():
        if ids:
            out.print(f"{split}: {len(ids)} unreadable images left out: {', '.join(ids[:5])}")
    for split, ids in content.get("not_finite_maps", {}).items():
        if ids:
            out.print(f"{split}: {len(ids)} maps with values that are not finite, read as zero: {', '.join(ids[:5])}")
    if content.get("missing_maps"):
        out.print(f"{evaluated}: {len(content['missing_maps'])} images without a map count as misses")
    out.print(f"written to {file}", style="dim", soft_wrap=True)


def localization_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return localization errors, a row for each maps x protocol x threshold origin; a localizer's row is bold."""
    errors = [key for key in rows[0] if key.endswith("_error")]
    table = Table(title="localization error, percent (95 % interval over images)", title_justify="left", title_style="")
    for column in ("maps", "protocol", "threshold"):
        table.add_column(column)
    for key in errors:
        table.add_column(_label(key), justify="right", no_wrap=True)
    for before, row in zip([None, *rows[:-1]], rows, strict=True):
        if before and before["protocol"] != row["protocol"]:
            table.add_section()
        own = row["maps"] == LOCALIZER
        values = [_error(row, key, with_interval=own) for key in errors]
        maps = f"{row['maps']}, class-agnostic" if row.get("class_agnostic") else row["maps"]
        table.add_row(maps, row["protocol"], threshold(row), *values, style="bold" if own else None)
    return table


def threshold(row: Mapping[str, Any]) -> str:
    """Return a row's threshold with its origin; thresholds of several overlaps are separated by slashes."""
    found = [part["threshold"] for part in row.get("by_iou", ())] or [row["threshold"]]
    if found[0] is None:
        return row["threshold_origin"]
    return f"{'/'.join(f'{value:.3g}' for value in found)} ({row['threshold_origin']})"


def _error(row: Mapping[str, Any], key: str, with_interval: bool) -> str:
    """Return an error, with its interval if that is wanted and known."""
    if row.get(key) is None:
        return "-"
    if not with_interval or key not in row.get("intervals", {}):
        return f"{row[key]:.2f}"
    low, high = row["intervals"][key]
    return f"{row[key]:.2f} ({low:z.1f}-{high:.1f})"


def differences(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the errors of two sets of maps of the same images, and the difference with its paired interval."""
    table = Table(title="difference to the other maps, percent (95 % interval, paired by image)", title_justify="left")
    table.title_style = ""
    for column in ("protocol", "threshold", "error"):
        table.add_column(column)
    for column in ("these", "those", "difference"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        low, high = row["interval"]
        difference = f"{row['difference']:+z.2f} ({low:+z.2f} to {high:+z.2f})"
        values = f"{row['ours']:.2f}", f"{row['theirs']:.2f}", difference
        table.add_row(row["protocol"], row["threshold_origin"], _label(row["error"]), *values)
    return table


def error_kinds(kinds: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """Return the shares of the kinds of localization, a row for each protocol x threshold origin."""
    first = next(iter(next(iter(kinds.values())).values()))
    table = Table(title="kinds of localization, percent of the images", title_justify="left", title_style="")
    for column in ("protocol", "threshold"):
        table.add_column(column)
    for kind in first:
        table.add_column(kind, justify="right")
    for protocol, of_protocol in kinds.items():
        for origin, shares in of_protocol.items():
            table.add_row(protocol, origin, *(f"{share:.1f}" for share in shares.values()))
    return table


def _percent(values: dict[str, float]) -> str:
    return ", ".join(f"{_label(name)} {value:.2f} %" for name, value in values.items())


def _label(key: str) -> str:
    """Return ``top1_error`` as ``top-1``, ``gt_known_error`` as ``GT-known``."""
    return key.removesuffix("_error").replace("top", "top-").replace("gt_known", "GT-known")
