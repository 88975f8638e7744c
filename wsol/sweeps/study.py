"""The trials of a sweep on disk: drawn once, run by one worker at a time, taken over from workers that died.

All trials wait in the study from the start, so there are never more of them than asked for. A worker holds the lock of
its trial while it runs it; the system frees the lock of a process that dies, however it dies, and the trial, marked as
running and yet not locked, goes to the next worker, which resumes its training.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from filelock import FileLock, Timeout
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from wsol.errors import InputError, first_line, unknown

SAMPLERS = ("random", "tpe")
PRUNERS = ("none", "median", "hyperband")
PATIENCE = 120.0
"""Seconds that a worker waits for another to let go of the study."""
IDENTITY = "wsol"
"""Name of the study's attribute that says what is searched."""


class Claim(NamedTuple):
    """A trial that this process alone runs."""

    trial: Trial
    lock: FileLock


class SweepStudy:
    """An Optuna study and the folder it lies in.

    Args:
        folder: of the sweep.
        settings: keys of `wsol.config.schema.Search`.
        mode: ``min`` or ``max`` of the metric.
        max_epochs: of a trial.

    Raises:
        InputError: unknown sampler or pruner, or storage that cannot be used.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], mode: str, max_epochs: int) -> None:
        self.folder, self.settings, self.mode = folder, settings, mode
        if settings["sampler"] not in SAMPLERS:
            raise unknown("sweep.sampler", settings["sampler"], SAMPLERS)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        (folder / "locks").mkdir(parents=True, exist_ok=True)
        with reachable(settings["storage"]):
            self.study = optuna.create_study(
                storage=_storage(settings["storage"], folder),
                study_name=folder.name,
                direction="minimize" if mode == "min" else "maximize",
                pruner=_pruner(settings, max_epochs),
                load_if_exists=True,
            )

    def identify(self, identity: Mapping[str, Any]) -> None:
        """State what is searched.

        Raises:
            InputError: the study was begun with something else.
        """
        with self._exclusive():
            before = self.study.user_attrs.get(IDENTITY)
            if before is None:
                self.study.set_user_attr(IDENTITY, json.dumps(identity, sort_keys=True))
                return
        known, now = json.loads(before), json.loads(json.dumps(identity))
        if different := sorted(key for key in known.keys() | now.keys() if known.get(key) != now.get(key)):
            raise InputError(
                f"{self.folder} holds a study that was begun otherwise ({', '.join(different)} differ): trials of two "
                "searches cannot be ranked together; choose another sweep.folder, or give the first command"
            )

    def fill(self, trials: int) -> None:
        """Let trials wait until there are so many in all."""
        with self._exclusive():
            for _ in range(trials - len(self.trials())):
                self.study.enqueue_trial({})

    def claim(self) -> Claim | None:
        """Take a trial that nobody runs: one whose worker died, else the next that waits; None if there is none now."""
        with self._exclusive():
            for frozen in self.trials(TrialState.RUNNING):
                with contextlib.suppress(Timeout):
                    return Claim(self._trial(frozen), self._lock(frozen.number))
            if not self.trials(TrialState.WAITING):
                return None
            number = self.study.ask().number
            return Claim(self._trial(self.trials()[number]), self._lock(number))

    def is_done(self) -> bool:
        """Whether no trial waits or runs."""
        return not self.trials(TrialState.WAITING, TrialState.RUNNING)

    def tell(self, claim: Claim, value: float | None, state: TrialState, error: str | None = None) -> None:
        """Record how a trial ended, and let it go."""
        if error:
            claim.trial.set_user_attr("error", error)
        self.study.tell(claim.trial, value if state == TrialState.COMPLETE else None, state)
        claim.lock.release()

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials, all or those in some states, by number."""
        with reachable(self.settings["storage"]):
            return self.study.get_trials(deepcopy=False, states=states or None)

    def best(self) -> FrozenTrial | None:
        """The complete trial of the best value; of equal ones the first."""
        complete = [trial for trial in self.trials(TrialState.COMPLETE) if trial.value is not None]
        sign = 1 if self.mode == "min" else -1
        return min(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)

    def run_dir(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.folder / "trials" / f"{number:04d}"

    def _trial(self, frozen: FrozenTrial) -> Trial:
        """A trial whose draws depend on its number alone, where the sampler does not learn."""
        self.study.sampler = _sampler(self.settings, frozen.number)
        return Trial(self.study, frozen._trial_id)

    def _lock(self, number: int) -> FileLock:
        lock = FileLock(self.folder / "locks" / f"{number:04d}")
        lock.acquire(blocking=False)
        return lock

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        with reachable(self.settings["storage"]), FileLock(self.folder / "locks" / "study", timeout=PATIENCE):
            yield


@contextlib.contextmanager
def reachable(storage: str) -> Iterator[None]:
    """Say what is wrong with the storage, if something is."""
    try:
        yield
    except (SQLAlchemyError, OSError, optuna.exceptions.StorageInternalError, ImportError) as error:
        cause = error.__cause__ or error
        raise InputError(
            f"sweep.storage={storage}: cannot be used ({first_line(cause)}). Is it locked by another program, full, or "
            "out of reach? Nothing is lost: the same command goes on when it is back"
        ) from error


def _storage(name: str, folder: Path) -> BaseStorage:
    if name == "sqlite":
        return RDBStorage(f"sqlite:///{folder / 'study.db'}", engine_kwargs={"connect_args": {"timeout": 60}})
    if name == "journal":
        return JournalStorage(JournalFileBackend(str(folder / "study.log")))
    if "://" not in name:
        raise InputError(f"sweep.storage={name}: expected sqlite, journal, or the URL of a database server")
    return RDBStorage(name)


def _sampler(settings: Mapping[str, Any], number: int) -> BaseSampler:
    seed = int(settings["seed"]) * 1_000_003 + number
    if settings["sampler"] == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, constant_liar=True)


def _pruner(settings: Mapping[str, Any], max_epochs: int) -> BasePruner:
    warmup = int(settings["warmup_epochs"])
    if settings["pruner"] == "none":
        return NopPruner()
    if settings["pruner"] == "median":
        return MedianPruner(n_startup_trials=5, n_warmup_steps=warmup)
    if settings["pruner"] == "hyperband":
        return HyperbandPruner(min_resource=max(1, warmup), max_resource=max(2, max_epochs))
    raise unknown("sweep.pruner", settings["pruner"], PRUNERS)


def best_of(values: list[float], mode: str) -> float | None:
    """The lowest or highest of the values that are numbers; None if none is.

    Example:
        >>> best_of([3.0, float("nan"), 2.0], "min")
        2.0
    """
    known = [value for value in values if math.isfinite(value)]
    return (min(known) if mode == "min" else max(known)) if known else None
