"""`wsol data verify`: read a dataset as training would, and report its contents and faults."""

from __future__ import annotations

from omegaconf import DictConfig

from wsol.config import build
from wsol.data.file_source import verify_source
from wsol.errors import InputError


def run(config: DictConfig) -> int:
    """Verify the dataset of a composed config; returns 0 if it has no faults, else 2."""
    if config.data is None:
        raise InputError("no dataset: choose one with data=..., see --help for the choices")
    if "_target_" not in config.data:
        raise InputError("data: expected a config with _target_, the class of the dataset; see configs/data")
    report = verify_source(build.maker(config.data, "data"), config.deep)
    print(report)
    return 0 if report.ok else 2
