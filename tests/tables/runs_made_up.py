"""Made-up finished runs: folders as `wsol train` leaves them, with numbers of our choice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from wsol.config.compose import compose


def recorded(words: Sequence[str]) -> dict[str, Any]:
    """The config that a run under these words records."""
    config = compose("train", list(words))
    if OmegaConf.is_missing(config.data, "root"):
        config.data.root = "somewhere"
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def make_run(
    folder: Path,
    config: dict[str, Any],
    *,
    error: float = 40.0,
    protocol: str = "cam2016",
    threshold: str = "fixed",
    seed: int = 0,
    fingerprint: str = "f" * 64,
    classification: float = 25.0,
) -> Path:
    """Write a finished run; returns its folder."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "seed": seed}))
    row = {
        "split": "test",
        "maps": "localizer",
        "protocol": protocol,
        "threshold_origin": threshold,
        "threshold": 0.2,
        "gt_known_error": error,
        "top1_error": error + 20,
        "top5_error": error + 10,
        "images": 200,
        "intervals": {"gt_known_error": [error - 5, error + 6], "top1_error": [error + 15, error + 26]},
    }
    blind = {**row, "maps": "whole image", "gt_known_error": 1.0, "top1_error": 1.0}
    results = {
        "name": folder.name,
        "seed": seed,
        "choices": config["choices"],
        "classification": {"test": {"top1_error": classification, "top5_error": 10.0}},
        "localization": [blind, {**row, "split": "val", "top1_error": 3.0}, row],
        "pixels": {},
        "checkpoint": {"file": "checkpoints/best.ckpt"},
        "data": {"splits": {"test": {"images": 200, "fingerprint": fingerprint}}, "classes": 8},
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder
