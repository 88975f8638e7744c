"""What the results of a run depend on besides its config: versions, revision, machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsol.files import atomic_file

PACKAGES = (
    "wsol",
    "torch",
    "torchvision",
    "timm",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "numpy",
    "opencv-python-headless",
)


def write_results(folder: Path, results: Mapping[str, Any]) -> Path:
    """Write results.json, including the provenance."""
    file = folder / "results.json"
    text = json.dumps({**results, **provenance()}, indent=2, allow_nan=False) + "\n"
    with atomic_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return file


def provenance() -> dict[str, Any]:
    """Return package versions, git revision and machine."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "versions": versions,
        "git": git_revision(),
        "machine": {"system": platform.system(), "processor": _processor(), "cores": os.cpu_count()},
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def git_revision(folder: Path = Path(__file__).parent) -> dict[str, Any] | None:
    """Return the revision of the program's checkout, and whether it has changes; None outside a checkout."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # fails for a copy installed in another checkout
        return {
            "revision": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
