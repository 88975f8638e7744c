"""Run folders: one folder holds everything a run leaves behind.

::

    config.yaml     the resolved config            results.json   what was measured, and under what
    checkpoints/    last, previous, best           metrics.csv    values by epoch
    run.log         what was said                  verdicts.npz   what was found of each image
    pictures.png    some judged images
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from wsol.config.plain import check_plain
from wsol.errors import InputError, first_line
from wsol.files import atomic_file, is_hidden

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
NOT_COMPARED = ("resume", "run_dir", "runs_dir", "logger", "on_nan")
"""Keys that do not make two configs different runs."""

RUN_DIR_VARIABLE = "WSOL_RUN_DIR"
"""Tells the other processes of a distributed run which folder the first one made."""


def is_first_process() -> bool:
    """Whether this is the first of the processes that Lightning, torchrun or srun started, by their variables."""
    return not any(int(os.environ.get(name) or 0) for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def started_from_outside() -> bool:
    """Whether this is one of several processes of a run that torchrun, srun, or the user on each node, started."""
    several = any(int(os.environ.get(name) or 1) > 1 for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"))
    return RUN_DIR_VARIABLE not in os.environ and (several or "NODE_RANK" in os.environ)


def shared_folder(parent: Path) -> Path | None:
    """The folder that all processes started by srun agree on, ``slurm-<job>-<step>``; None for a process of its own.

    Raises:
        InputError: nothing that torchrun tells its processes names a folder.
    """
    if not started_from_outside():
        return None
    if int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return parent / f"slurm-{os.environ['SLURM_JOB_ID']}-{os.environ['SLURM_STEP_ID']}"
    raise InputError(
        "processes started by torchrun, or on several nodes, must agree on a folder: give run_dir=... (wsol eval: "
        "out=...), the same to all"
    )


def new_folder(runs_dir: Path, name: str) -> Path:
    """Make and return ``<runs_dir>/<name>/<date>_<time>``, with a number behind it where that is taken.

    Processes started by srun share one, see `shared_folder`.
    """
    if shared := shared_folder(runs_dir / name):
        shared.mkdir(parents=True, exist_ok=True)
        return shared
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in ("", *(f"_{n}" for n in range(1, 1000))):
        folder = runs_dir / name / f"{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise InputError(f"{runs_dir / name}: a thousand runs of the same second; choose run_dir")


def open_folder(config: DictConfig) -> tuple[Path, bool]:
    """Return the folder of this run, and whether it goes on with what is there (`resume`).

    Raises:
        InputError: `run_dir` holds another run, or `resume` names a folder without a run or with one of another config.
    """
    if given := os.environ.get(RUN_DIR_VARIABLE):
        return Path(given), config.resume is not False
    if not isinstance(config.resume, bool):
        folder = Path(str(config.resume))
        _same_config(folder, config)
        return folder, True
    if config.run_dir:
        return _named_folder(Path(config.run_dir), config)
    shared = shared_folder(Path(config.runs_dir) / config.name)
    if config.resume and (found := find_same(Path(config.runs_dir), config)):
        return found, True
    return _named_folder(shared, config) if shared else (new_folder(Path(config.runs_dir), config.name), False)


@contextlib.contextmanager
def announced(folder: Path) -> Iterator[None]:
    """Tell processes started meanwhile which folder this run has; the environment is as before afterwards."""
    before = dict(os.environ)
    os.environ[RUN_DIR_VARIABLE] = str(folder.resolve())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _named_folder(folder: Path, config: DictConfig) -> tuple[Path, bool]:
    """`open_folder` where ``run_dir`` names the folder."""
    if not (folder / "config.yaml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        return folder, False
    if not is_first_process():  # the first one made it
        return folder, config.resume is not False
    if not config.resume:
        raise InputError(f"{folder} holds a run already: choose another run_dir, or resume=true to go on with it")
    _same_config(folder, config)
    return folder, True


def discard(folder: Path) -> None:
    """Remove what a run that never began left in its folder; a folder with anything else in it is left alone."""
    there = {file.name for file in folder.rglob("*") if file.is_file()}
    if there <= {"config.yaml", "run.log", "metrics.csv"}:
        shutil.rmtree(folder, ignore_errors=True)  # another process of the run may have been quicker


def find_same(runs_dir: Path, config: DictConfig) -> Path | None:
    """Return the newest run folder whose recorded config is the same, whatever the folder is called."""
    files = runs_dir.glob("**/config.yaml")
    folders = [file.parent for file in files if not is_hidden(file.relative_to(runs_dir))]
    same = [folder for folder in folders if comparable(read_config(folder)) == comparable(config)]
    return max(same, key=lambda folder: (folder / "config.yaml").stat().st_mtime_ns, default=None)


def comparable(config: DictConfig) -> dict:
    """What of a config makes it the same run."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    kept = {str(k): v for k, v in plain.items() if k not in NOT_COMPARED}
    kept["choices"] = {k: v for k, v in (kept.get("choices") or {}).items() if k != "logger"}
    return kept


def _same_config(folder: Path, config: DictConfig) -> None:
    before, now = comparable(read_config(folder)), comparable(config)
    different = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
    if different:
        raise InputError(
            f"{folder}: that run was made with another config ({', '.join(different)} differ); "
            "give the same command to resume it"
        )


def read_config(folder: Path) -> DictConfig:
    """Read the config that a run recorded.

    Raises:
        InputError: no run there, or its config.yaml is unreadable.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise InputError(f"{folder}: no run there (no config.yaml); expected a folder that `wsol train` made")
    try:
        config = OmegaConf.load(file)
    except (OmegaConfBaseException, OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file}: unreadable ({first_line(error)})") from error
    if not isinstance(config, DictConfig):
        raise InputError(f"{file}: expected a mapping")
    check_plain(OmegaConf.to_container(config, resolve=False), str(file))
    return config


def write_text(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with atomic_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_config(folder: Path, config: DictConfig) -> None:
    """Record the resolved config."""
    write_text(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))


def write_results(folder: Path, results: Mapping[str, Any]) -> Path:
    """Write results.json, with what the numbers depend on beside them."""
    file = folder / "results.json"
    write_text(file, json.dumps({**results, **provenance()}, indent=2, allow_nan=False) + "\n")
    return file


def provenance() -> dict[str, Any]:
    """Package versions, git revision and machine."""
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
    """Revision of the checkout that the program runs from, and whether it was changed; None outside a checkout."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git(
            "ls-files", "--error-unmatch", Path(__file__).name
        )  # an installed copy may lie inside somebody else's checkout
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


class _LogFile(logging.FileHandler):
    """A log file that a full disk cuts short, instead of a stack trace on the screen for each line."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Report any other error."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close the file, even if the rest of it cannot be written."""
        with contextlib.suppress(OSError):
            super().close()


def start_log(folder: Path) -> logging.Handler:
    """Send what the package and Lightning say to ``run.log`` too; returns the handler, to be closed by `stop_log`."""
    handler = _LogFile(folder / "run.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
    return handler


def stop_log(handler: logging.Handler) -> None:
    """Close the log file, also after an error."""
    for name in LOGGERS:
        logging.getLogger(name).removeHandler(handler)
    handler.close()


LOGGERS = ("wsol", "pytorch_lightning", "py.warnings")
