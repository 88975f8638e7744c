"""Which folder a training gets: a new one, the one named, or that of the run it goes on with."""

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


def open_folder(config: DictConfig, *, may_grow: bool = True) -> tuple[Path, bool]:
    """Return the folder of this run, and whether it goes on with what is there (`resume`).

    The first process of a run locks the folder until `unlock` (see `wsol.runs.run_lock`) and records the config there;
    not so where the run is finished and there is nothing left to do.

    Args:
        config: composed, of `wsol train` or `wsol ae`.
        may_grow: whether a run that is named may be trained for more epochs than it was begun with.

    Raises:
        InputError: `run_dir` holds another run, or `resume` names a folder without a run or with one of another config.
        RunInUse: another process is training the run.
    """
    if given := os.environ.get(RUN_DIR_VARIABLE):
        return Path(given), config.resume is not False
    if not isinstance(config.resume, bool):
        folder = Path(str(config.resume))
        if not (folder / CONFIG_FILE).is_file():
            raise InputError(f"{folder}: no run there (no {CONFIG_FILE}); expected a folder that `wsol train` made")
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
    """`open_folder` where a folder is named."""
    if not (folder / CONFIG_FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        return _begun(folder, config)
    if not is_first_process():  # the first one made it
        return folder, config.resume is not False
    if not config.resume:
        raise InputError(f"{folder} holds a run already: choose another run_dir, or resume=true to go on with it")
    return _gone_on(folder, config, may_grow)


def _begun(folder: Path, config: DictConfig) -> tuple[Path, bool]:
    """Begin a run in a folder without one."""
    if is_first_process():
        lock(folder)
        record(folder, config)
    return folder, False


def _gone_on(folder: Path, config: DictConfig, may_grow: bool, checked: bool = False) -> tuple[Path, bool]:
    """Go on with the run of a folder, after a look at whether the config is that run's."""
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
        log.info("%s goes on; its results until now are kept as %s", folder, kept.name)
    record(folder, config)
    return folder, True


def _growth(folder: Path, config: DictConfig, may_grow: bool) -> Difference | None:
    """How many epochs more a run is asked for, if so.

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
        why = why_not_longer(config, grown.before, grown.now) if may_grow else "its rounds have been trained"
        if why is None:
            return grown
    raise InputError(
        f"{folder}: that run was made with another config: {identity.described(found)}"
        f"{f'; {why}' if why else ''}. To go on with it, give {'this key' if len(found) == 1 else 'these keys'} as "
        f"before. Or start a new run in another folder, {_way_out(folder)}"
    )


def _way_out(folder: Path) -> str:
    """How a new run begins with the weights of this one."""
    best = folder / "checkpoints" / "best.ckpt"
    file = best if best.exists() else best.with_name("last.ckpt")
    return f"from the backbone of this one if you like: backbone.weights={file}"


def _unreadable(results: Path) -> str | None:
    """How to call results that cannot be read; None if they can. What is not readable is measured again."""
    try:
        read_results(results)
    except InputError as error:
        log.warning("%s; it is measured again", str(error).partition("; ")[0])
        return "results-unreadable"
    return None


def _free(folder: Path, stem: str) -> Path:
    """A name that nothing in the folder has."""
    names = (f"{stem}{f'-{n}' if n else ''}.json" for n in range(10_000))
    return next(folder / name for name in names if not (folder / name).exists())


def _tell(register: Register, match: Match) -> None:
    """Say which run was found, or what there is instead."""
    if match.run and match.not_compared:
        _listed(f"{match.run} is the same run; what differs changes no result", match.not_compared)
    if not match.run:
        log.info("no run of this config in %s; starting anew", register.runs_dir)
        if match.nearest:
            _listed(f"the nearest, {match.nearest}, differs", match.differing)
            if [each.key for each in match.differing] == [EPOCHS]:
                log.info("to go on with that one instead: resume=%s", match.nearest)
    if note := register.note():
        log.warning("%s", note)


def _listed(what: str, found: Sequence[Difference]) -> None:
    log.info("%s: %s", what, identity.described(list(found)))


class _Fingerprints:
    """Fingerprints of a config's data, computed when they are asked for."""

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
