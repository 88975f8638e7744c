"""The folder of a training: a new one, a named one, or that of the run to resume."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from wsol.errors import InputError
from wsol.runs import identity
from wsol.runs.folder import RUN_DIR_VARIABLE, is_first_process, new_folder, shared_folder
from wsol.runs.identity import Difference
from wsol.runs.longer import why_not_longer
from wsol.runs.register import CONFIG_FILE, Match, Register, other_data, read_run, record
from wsol.runs.results import read_results
from wsol.runs.run_lock import exclusive, lock

log = logging.getLogger("wsol")

EPOCHS = "trainer.max_epochs"

LEFT_EARLY = ("run.log", "metrics.csv", "steps.csv", "error.txt")
"""Files of a run, or of a trial of a search, that ended before it recorded its config."""


def open_folder(config: DictConfig, *, may_grow: bool = True) -> tuple[Path, bool]:
    """Return the folder of this run, and whether it resumes an existing run.

    The first process of a run locks the folder until `unlock` (see `wsol.runs.run_lock`) and records the config there,
    unless the run is finished and nothing is left to do.

    Args:
        config: composed config of `wsol train` or `wsol ae`.
        may_grow: whether a named run may be trained for more epochs than at its start.

    Raises:
        InputError: `run_dir` contains another run, or `resume` names a folder without a run or with another config.
        RunInUse: another process is training the run.
    """
    if given := os.environ.get(RUN_DIR_VARIABLE):
        return Path(given), config.resume is not False
    if not isinstance(config.resume, bool):
        folder = Path(str(config.resume))
        if not (folder / CONFIG_FILE).is_file():
            raise InputError(f"{folder}: not a run (no {CONFIG_FILE}); expected a folder that `wsol train` made")
        return _gone_on(folder, config, may_grow)
    if config.run_dir:
        return _named(Path(config.run_dir), config, may_grow)
    shared = shared_folder(Path(config.runs_dir) / config.name)
    if not config.resume:
        return _named(shared, config, may_grow) if shared else _begun(_new(config), config)
    runs_dir = Path(config.runs_dir)
    with exclusive(runs_dir) if is_first_process() else contextlib.nullcontext():
        register = Register(runs_dir)
        match = register.find(_plain(config), _Fingerprints(config))
        if is_first_process():
            _tell(register, match)
        if match.run:
            return _gone_on(match.run, config, may_grow=False, checked=True)
        return _named(shared, config, may_grow) if shared else _begun(_new(config), config)


def _new(config: DictConfig) -> Path:
    return new_folder(Path(config.runs_dir), config.name)


def _named(folder: Path, config: DictConfig, may_grow: bool) -> tuple[Path, bool]:
    """Apply `open_folder` to a named folder."""
    if not (folder / CONFIG_FILE).exists():
        if is_first_process() and (others := _others(folder)):
            raise InputError(
                f"{folder} contains no run, but other files, such as {others[0]}: choose an empty or a new run_dir"
            )
        folder.mkdir(parents=True, exist_ok=True)
        return _begun(folder, config)
    if not is_first_process():  # the first one created it
        return folder, config.resume is not False
    if not config.resume:
        raise InputError(f"{folder} already contains a run: choose another run_dir, or resume it with resume=true")
    return _gone_on(folder, config, may_grow)


def _others(folder: Path) -> list[str]:
    """Return the names in a folder that no begun run leaves there."""
    there = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in there if not path.name.startswith(".") and path.name not in LEFT_EARLY)


def _begun(folder: Path, config: DictConfig) -> tuple[Path, bool]:
    """Begin a run in a folder without one."""
    if is_first_process():
        lock(folder)
        record(folder, config)
    return folder, False


def _gone_on(folder: Path, config: DictConfig, may_grow: bool, checked: bool = False) -> tuple[Path, bool]:
    """Resume the run of a folder after checking that the config is that run's."""
    if not is_first_process():
        return folder, True
    grown = None if checked else _growth(folder, config, may_grow)
    results = folder / "results.json"
    reason = None
    if results.is_file():
        reason = f"results-of-{grown.before}-epochs" if grown else _unreadable(results)
        if reason is None:
            return folder, True
    lock(folder)
    if reason is not None and results.is_file():
        kept = _free(folder, reason)
        results.rename(kept)
        log.info("%s is resumed; its previous results are kept as %s", folder, kept.name)
    record(folder, config)
    return folder, True


def _growth(folder: Path, config: DictConfig, may_grow: bool) -> Difference | None:
    """Return the requested increase of the number of epochs, if any.

    Raises:
        InputError: anything else differs, or the run cannot be made longer.
    """
    run, now = read_run(folder), _plain(config)
    found = identity.differences(run.identity, identity.of_run(now))
    found += other_data(run, now, _Fingerprints(config))
    if not found:
        return None
    grown = next((each for each in found if each.key == EPOCHS), None)
    why = None
    if grown and len(found) == 1:
        why = why_not_longer(config, grown.before, grown.now) if may_grow else "its rounds are already trained"
        if why is None:
            return grown
    raise InputError(
        f"{folder}: that run has another config: {identity.described(found)}{f'; {why}' if why else ''}. To resume it, "
        f"{_as_before(folder, found)}. Or start a new run in another folder, {_way_out(folder)}"
    )


def _as_before(folder: Path, found: Sequence[Difference]) -> str:
    if len(found) <= identity.SHOWN:
        return f"set {'this key' if len(found) == 1 else 'these keys'} as before"
    return f"give all keys of the command that started it again; its config is {folder / CONFIG_FILE}"


def _way_out(folder: Path) -> str:
    """Say how a new run can start from the weights of this one."""
    best = folder / "checkpoints" / "best.ckpt"
    file = best if best.exists() else best.with_name("last.ckpt")
    return f"optionally from this run's backbone: backbone.weights={file}"


def _unreadable(results: Path) -> str | None:
    """Return a name for results that cannot be read, so that they are computed again; None if they can be read."""
    try:
        read_results(results)
    except InputError as error:
        log.warning("%s; it is evaluated again", str(error).partition("; ")[0])
        return "results-unreadable"
    return None


def _free(folder: Path, stem: str) -> Path:
    """Return an unused name in the folder."""
    names = (f"{stem}{f'-{n}' if n else ''}.json" for n in range(10_000))
    return next(folder / name for name in names if not (folder / name).exists())


def _tell(register: Register, match: Match) -> None:
    """Log which run was found, or the nearest one."""
    if match.run and match.not_compared:
        _listed(f"{match.run} is the same run; the differences change no result", match.not_compared)
    if not match.run:
        log.info("no run with this config in %s; starting a new one", register.runs_dir)
        if match.nearest:
            _listed(f"the nearest, {match.nearest}, differs", match.differing)
            if [each.key for each in match.differing] == [EPOCHS]:
                log.info("to resume that one instead: resume=%s", match.nearest)
    if note := register.note():
        log.warning("%s", note)


def _listed(what: str, found: Sequence[Difference]) -> None:
    log.info("%s: %s", what, identity.described(list(found)))


class _Fingerprints:
    """Fingerprints of a config's data, computed on first use."""

    def __init__(self, config: DictConfig) -> None:
        self._config = config

    def __call__(self) -> Mapping[str, str]:
        from wsol.config import build

        source = build.build_source(self._config)
        return {name: source.split(name).fingerprint() for name in source.splits}


def _plain(config: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return identity.flat({str(key): value for key, value in plain.items()})
