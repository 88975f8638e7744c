"""The summary of a sweep: sweep.json, history.png and importance.png, and a few lines for the screen."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from wsol import runs
from wsol.config.compose import override
from wsol.errors import InputError
from wsol.files import atomic_file
from wsol.runs.results import read_results
from wsol.sweeps.study import ERROR, SweepStudy
from wsol.sweeps.worker import Sweep

ENOUGH = 4
"""Minimum number of complete trials for computing importance."""


def write(sweep: Sweep, study: SweepStudy) -> dict[str, Any]:
    """Write the files into the sweep's folder; returns the content of sweep.json.

    Raises:
        InputError: no completed trial.
    """
    found, results = study.best(), study.results()
    counts = Counter(trial.state.name.lower() for trial in results.values())
    errors = {str(number): trial.user_attrs[ERROR] for number, trial in results.items() if ERROR in trial.user_attrs}
    if found is None:
        raise InputError(f"{study.folder}: no trial was completed ({dict(counts)}). {' '.join([*errors.values()][:1])}")
    number, best = found
    content = {
        "metric": sweep.settings["metric"],
        "mode": sweep.mode,
        "best": {
            "trial": number,
            "value": best.value,
            "params": best.params,
            "run": str(study.run_dir(number)),
        },
        "command": command(sweep, study, best),
        "trials": dict(sorted(counts.items())),
        "supervision": supervision(study.run_dir(number), sweep.settings["metric"]),
        "importance": importance(study),
        "values": {str(number): trial.value for number, trial in results.items() if trial.value is not None},
        "errors": errors,
    }
    folder = study.folder
    runs.write_text(folder / "sweep.json", json.dumps(content, indent=2) + "\n")
    _save(history(study, sweep.settings["metric"]), folder / "history.png")
    if content["importance"]:
        _save(bars(content["importance"]), folder / "importance.png")
    return content


def command(sweep: Sweep, study: SweepStudy, trial: FrozenTrial) -> str:
    """Return the command line that trains a trial's network again, as an ordinary run."""
    drawn = [dimension.override(trial.params[dimension.key]) for dimension in study.space]
    folders = [word for folder in sweep.config_dirs for word in ("--config-dir", folder)]
    metric = override("monitor", sweep.settings["metric"])
    return shlex.join(["wsol", "train", *folders, *sweep.overrides, *drawn, metric])


def supervision(run: Path, metric: str) -> dict[str, Any]:
    """Return what chose among the trials: the images of the val split, and their labels, boxes, masks or pseudo boxes.

    Raises:
        InputError: the run folder has no readable results.json.
    """
    about = read_results(run / "results.json")["data"]
    images, classes = about["splits"]["val"]["images"], about["classes"]
    if "/pseudo/" in metric:
        kind = "pseudo boxes"
    else:
        kind = "masks" if metric.endswith("PxAP") else "boxes" if metric.count("/") > 1 else "labels"
    return {"split": "val", "kind": kind, "images": images, "per_class": images / classes if classes else None}


def importance(study: SweepStudy) -> dict[str, float]:
    """Return the share of each key in the spread of values (PED-ANOVA, Watanabe et al. 2023); empty with few trials."""
    complete = study.results(TrialState.COMPLETE)
    if len(complete) < ENOUGH or len({trial.value for trial in complete.values()}) < 2:
        return {}
    try:
        found = get_param_importances(study.study, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError):  # a key that had the same value in all trials
        return {}
    return {key: float(share) for key, share in found.items() if math.isfinite(share)}


def history(study: SweepStudy, metric: str) -> Figure:
    """Plot the values by trial, and the best so far."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    complete = [
        (number, trial.value) for number, trial in study.results(TrialState.COMPLETE).items() if trial.value is not None
    ]
    numbers, values = zip(*complete, strict=True)
    choose = min if study.mode == "min" else max
    axes.plot(numbers, values, "o", label="complete")
    best = [choose(values[: i + 1]) for i in range(len(values))]
    axes.plot(numbers, best, "-", drawstyle="steps-post", label="best so far")
    pruned = [
        (number, trial.intermediate_values[max(trial.intermediate_values)])
        for number, trial in study.results(TrialState.PRUNED).items()
        if trial.intermediate_values
    ]
    if pruned:
        axes.plot(*zip(*pruned, strict=True), "x", label="pruned", color="grey")
    axes.set(xlabel="trial", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def bars(shares: Mapping[str, float]) -> Figure:
    """Plot the importance of each key."""
    figure = Figure(figsize=(7, 1 + 0.4 * len(shares)), layout="constrained")
    axes = figure.subplots()
    axes.barh(list(shares)[::-1], list(shares.values())[::-1])
    axes.set(xlabel="importance (PED-ANOVA)", xlim=(0, 1))
    return figure


def _save(figure: Figure, file: Path) -> None:
    with atomic_file(file) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
