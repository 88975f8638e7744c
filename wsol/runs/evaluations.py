"""The evaluations of a run's network: folders that `wsol eval` and `wsol regress` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsol.files import is_hidden

REGRESSOR = "regressor"
"""Folder within a run of `wsol regress`: the run of the network that gives the boxes."""


def evaluation_folders(run: Path) -> list[Path]:
    """Return the evaluations of a run, the oldest first: those with results.json.

    They are ``<run>/eval/*``, and for the regressor of `wsol regress` the ``evaluation`` beside it, which comes first.
    """
    files = [*run.parent.glob("evaluation/results.json")] if run.name == REGRESSOR else []
    files += sorted(run.glob("eval/*/results.json"))
    return [file.parent for file in files if not is_hidden(file.parent)]


def is_of_same_network(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether an evaluation used the checkpoint, images, transform and maps or boxes of a run.

    Args:
        own: content of the run's results.json.
        other: content of the evaluation's.
    """
    sizes = [results["image_size"] for results in (own, other) if "image_size" in results]
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        return False

    def about(results: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return checkpoint, images, transform, explainer and model of an evaluation."""
        chosen = results.get("choices") or {}
        test = results["data"].get("splits", {}).get("test", {}).get("fingerprint")
        file = Path((results.get("checkpoint") or {}).get("file") or "").name
        return file, test, chosen.get("transform"), chosen.get("explainer"), chosen.get("model")

    return about(own) == about(other)
