"""`wsol sweep`: search over any keys of `wsol train`; after an interruption the same command continues."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from wsol.sweeps import hyperparameter_search as searching


def run(config: DictConfig) -> int:
    """Search under a composed config; returns the exit code."""
    settings = searching.settings_of(config)
    base, config_dirs = settings["overrides"], list(config.config_dirs)
    training = searching.check(settings, base, config_dirs)
    if config.wandb:
        from wsol.sweeps.wandb_config import sweep_config

        content = sweep_config(settings, base, searching.metric_mode(settings["metric"]))
        print(yaml.safe_dump(content, sort_keys=False), end="")
        return 0
    print("wsol sweep: loading PyTorch ...", file=sys.stderr, flush=True)
    from wsol.cli import screen

    screen.quiet_lightning()
    found = searching.run(settings, base, config_dirs, training)
    show(Path(found["best"]["run"]).parents[1] / "sweep.json")
    return 0


def show(file: Path) -> None:
    """Print the results of a search from its sweep.json."""
    content: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    folder = file.parent
    best, spent = content["best"], content["supervision"]
    if (folder / "test" / "results.json").exists():
        from wsol.cli import screen

        screen.results(folder / "test" / "results.json")
    per_class = "" if spent["per_class"] is None else f", {spent['per_class']:.3g} per class"
    print(f"best: trial {best['trial']}, {content['metric']} {best['value']:.4g}   ({best['run']})")
    print(f"  {content['command']}")
    for key, share in content["importance"].items():
        print(f"  importance of {key}: {share:.2f}")
    for number, error in content["errors"].items():
        print(f"  trial {number} failed: {error}")
    print(f"chosen with the {spent['kind']} of {spent['images']} images of the val split{per_class}")
    print(f"written to {folder / 'sweep.json'}, history.png" + (", importance.png" if content["importance"] else ""))
