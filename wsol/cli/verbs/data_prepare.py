"""`wsol data prepare`: unpack a dataset's published archives into the expected layout, and verify it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from wsol.config import build
from wsol.config.compose import compose, override
from wsol.data.file_source import ListedSource
from wsol.data.prepare.preparation import prepare
from wsol.errors import InputError


def run(words: Sequence[str]) -> int:
    """Parse the words and prepare; returns 0 if the dataset verifies, else 2."""
    arguments = parser().parse_args(words)
    chosen = [override("data", arguments.dataset), override("data_dir", arguments.data_dir)]
    config = compose("data_verify", [*chosen, *([override("data.root", arguments.root)] if arguments.root else [])])
    kind = build.locate(config.data._target_, "data")
    if not (isinstance(kind, type) and issubclass(kind, ListedSource) and "root" in config.data):
        raise InputError(f"{arguments.dataset} has no archives to prepare")
    columns = TextColumn(arguments.dataset), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(file=sys.stderr)) as bars:
        bar = bars.add_task("", visible=False)
        report = prepare(
            kind,
            arguments.archive,
            config.data.root,
            download=arguments.download,
            urls=dict(arguments.url),
            progress=lambda done, total: bars.update(bar, completed=done, total=total, visible=True),
            build=build.maker(config.data, "data"),
        )
    print(report)
    return 0 if report.ok else 2


def parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    made = argparse.ArgumentParser(prog="wsol data prepare", description=__doc__, allow_abbrev=False)
    made.add_argument("dataset", help="choice of the group data, such as cub, ilsvrc or tiny_imagenet")
    made.add_argument("--archive", type=Path, action="append", default=[], help="a published archive; may be repeated")
    made.add_argument("--root", type=Path, help="the dataset's folder; default that of its config")
    made.add_argument("--data-dir", type=Path, default=Path("data"), help="where datasets lie; default data")
    made.add_argument("--download", action="store_true", help="fetch archives with a public address first")
    made.add_argument(
        "--url", type=_pair, action="append", default=[], metavar="ARCHIVE=URL", help="another address of an archive"
    )
    return made


def _pair(word: str) -> tuple[str, str]:
    name, _, url = word.partition("=")
    if not url:
        raise argparse.ArgumentTypeError(f"expected ARCHIVE=URL, got {word!r}")
    return name, url
