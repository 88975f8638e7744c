"""`wsol data verify`: read a dataset as training would and report what is there and what is wrong."""

from __future__ import annotations

import inspect

from omegaconf import DictConfig

from wsol import build


def run(config: DictConfig) -> int:
    """Verify the dataset of a composed config; returns 0 if nothing is wrong, else 2."""
    source = build.build_source(config)
    deep = {"deep": config.deep} if "deep" in inspect.signature(source.verify).parameters else {}
    report = source.verify(**deep)
    print(report)
    return 0 if report.ok else 2
