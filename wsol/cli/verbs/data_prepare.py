"""`wsol data prepare`: unpack a dataset's published archives into the expected layout, and verify it."""

from __future__ import annotations

import sys

from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from wsol.config import build
from wsol.data.file_source import ListedSource
from wsol.data.prepare.preparation import prepare
from wsol.errors import InputError


def run(config: DictConfig) -> int:
    """Prepare the dataset of a composed config; returns 0 if it verifies, else 2."""
    if config.data is None:
        raise InputError("which dataset? wsol data prepare data=cub archive=CUB_200_2011.tgz")
    kind, name = build.locate(config.data._target_, "data"), config.choices.data
    if not (isinstance(kind, type) and issubclass(kind, ListedSource) and "root" in config.data):
        raise InputError(f"data={name} has no archives to prepare")
    given = config.archive if isinstance(config.archive, ListConfig) else [config.archive]
    urls = OmegaConf.to_container(config.urls)
    assert isinstance(urls, dict)
    columns = TextColumn(str(name)), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(file=sys.stderr)) as bars:
        bar = bars.add_task("", visible=False)
        report = prepare(
            kind,
            [str(archive) for archive in given if archive is not None],
            config.data.root,
            download=config.download,
            urls={str(archive): str(url) for archive, url in urls.items()},
            progress=lambda done, total: bars.update(bar, completed=done, total=total, visible=True),
            build=build.maker(config.data, "data"),
        )
    print(report)
    return 0 if report.ok else 2
