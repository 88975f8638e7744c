"""The trials of a sweep on disk: sampled once, run by one worker at a time, taken over from workers that died.

A trial of the search is a number below `sweep.trials` with a run folder and a file for each attempt at it (see
`wsol.sweeps.attempts`). Each attempt is a trial of Optuna, sampled by ``Study.ask``, and one of them ends with a
result. Optuna's heartbeats with `RetryHeartbeatStaleTrialCallback` do not work here: they only exist for databases, not
for journals, and wait the whole grace period for a worker killed on the same machine. They also do not know that a
retry continues in the run folder of its predecessor, so the number of results and their values would differ.
"""

from __future__ import annotations

import contextlib
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from wsol.errors import InputError, unknown
from wsol.sweeps.attempts import Attempt, Attempts
from wsol.sweeps.samplers import SAMPLERS, make_pruner, make_sampler
from wsol.sweeps.search_space import read_space
from wsol.sweeps.storage import connect, one_at_a_time, publish, reachable, read_about

CRASHES = 3
"""Number of workers that a trial may kill without completing an epoch before it has failed."""
NUMBER, ERROR = "trial", "error"
"""Attributes of Optuna's trials: the number of the trial in the sweep, and how it failed."""


class LostTrialError(Exception):
    """Another worker took the trial over, because this one sent no heartbeat."""


@dataclass
class Claim:
    """A trial that only this process runs."""

    number: int
    trial: Trial
    attempt: Attempt
    overrides: list[str]
    """Overrides of `wsol train`: the sampled values."""
    values: dict[int, float] = field(default_factory=dict)
    """The metric by epoch."""


class SweepStudy:
    """An Optuna study and its folder.

    Args:
        folder: folder of the sweep.
        settings: keys of `wsol.config.schema_parts.Search`.
        mode: ``min`` or ``max`` for the metric.
        max_epochs: number of epochs of a trial.
        identity: what is searched; it is stored with a new study and compared with that of an existing one. None: not
            compared.
        machine: see `Attempts`.

    Raises:
        InputError: unknown sampler or pruner; storage that cannot be used or does not contain the study of the folder;
            a study that began with another identity.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        mode: str,
        max_epochs: int,
        identity: Mapping[str, Any] | None = None,
        machine: str | None = None,
    ) -> None:
        self.folder, self.settings, self.mode = folder, settings, mode
        if settings["sampler"] not in SAMPLERS:
            raise unknown("sweep.sampler", settings["sampler"], SAMPLERS)
        pruner = make_pruner(settings, max_epochs)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = read_space(settings["space"])
        self.attempts = Attempts(folder / "attempts", machine)
        with reachable(settings["storage"]), one_at_a_time(folder / "study.lock"):
            storage = connect(settings["storage"], folder)
            if not (folder / "study.json").exists():
                name = f"{folder.name}-{uuid.uuid4().hex[:12]}"
                direction = StudyDirection.MINIMIZE if mode == "min" else StudyDirection.MAXIMIZE
                optuna.create_study(storage=storage, study_name=name, direction=direction)
                publish(folder / "study.json", {"study": name, "search": identity or {}})
            about = read_about(folder / "study.json")
            if identity is not None:
                self._compare(about["search"], json.loads(json.dumps(identity)))
            try:
                self.study = optuna.load_study(study_name=about["study"], storage=storage, pruner=pruner)
            except KeyError as error:
                raise InputError(
                    f"sweep.storage={settings['storage']} contains no study {about['study']!r}, which "
                    f"{folder / 'study.json'} names: use the storage that the search began with, or choose "
                    "another sweep.folder"
                ) from error

    def _compare(self, known: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        if different := sorted(key for key in known.keys() | now.keys() if known.get(key) != now.get(key)):
            raise InputError(
                f"{self.folder} contains a study with other settings ({', '.join(different)} differ): trials of two "
                "searches cannot be ranked together; choose another sweep.folder, or repeat the first command"
            )

    def claim(self) -> Claim | None:
        """Take a trial that nobody runs: new, or left by a worker that died; None if there is none now."""
        with reachable(self.settings["storage"]):
            known = self._by_number()
            for number in range(self.settings["trials"]):
                if any(map(_is_result, known.get(number, ()))):
                    continue
                progress = max((len(each.intermediate_values) for each in known.get(number, ())), default=0)
                crashes = self.attempts.crashes(_name(number), progress)
                attempt = self.attempts.take(_name(number), progress)
                if attempt is None:
                    continue
                try:
                    claim = self._begin(number, attempt)
                except BaseException:
                    attempt.end("left")
                    raise
                if claim is None:
                    attempt.end("finished")
                elif crashes < CRASHES:
                    return claim
                else:
                    error = (
                        f"its worker died {crashes} times at the same epoch without an error (killed, out "
                        f"of memory, or a crash of a library); see {self.run_dir(number) / 'run.log'}"
                    )
                    self.tell(claim, None, TrialState.FAIL, error)
        return None

    def _begin(self, number: int, attempt: Attempt) -> Claim | None:
        """Sample a trial, like earlier attempts; None if one of them has ended meanwhile."""
        for earlier in self._by_number().get(number, ()):
            if earlier.state == TrialState.RUNNING:
                with contextlib.suppress(ValueError):  # it has just ended
                    self.study.tell(earlier.number, state=TrialState.FAIL)
        before = self._by_number().get(number, [])
        if any(map(_is_result, before)):
            return None
        keys = {dimension.key for dimension in self.space}
        drawn = next((each.params for each in before if keys <= each.params.keys()), {})
        self.study.sampler = make_sampler(self.settings, number, drawn)
        trial = self.study.ask({dimension.key: dimension.distribution for dimension in self.space})
        trial.set_user_attr(NUMBER, number)
        overrides = [dimension.override(trial.params[dimension.key]) for dimension in self.space]
        claim = Claim(number, trial, attempt, overrides)
        for epoch, value in sorted(max((each.intermediate_values for each in before), key=len, default={}).items()):
            trial.report(value, epoch)
            claim.values[epoch] = value
        return claim

    def report(self, claim: Claim, epoch: int, value: float) -> None:
        """Record the metric after an epoch.

        Raises:
            optuna.TrialPruned: the trial is unpromising.
            LostTrialError: another worker runs it now.
            StorageError: the study cannot be reached.
        """
        with reachable(self.settings["storage"]):
            if not claim.attempt.is_mine():
                raise LostTrialError
            if epoch not in claim.values:  # a resumed trial repeats at most one epoch
                claim.values[epoch] = value
                try:
                    claim.trial.report(value, epoch)
                except UpdateFinishedTrialError as error:
                    raise LostTrialError from error
            if claim.trial.should_prune():
                raise optuna.TrialPruned

    def tell(self, claim: Claim, value: float | None, state: TrialState, error: str | None = None) -> None:
        """Record how a trial ended, and release it.

        Raises:
            LostTrialError: another worker runs it now.
            StorageError: the study cannot be reached.
        """
        with reachable(self.settings["storage"]):
            if not claim.attempt.is_mine():
                raise LostTrialError
            try:
                if error:
                    claim.trial.set_user_attr(ERROR, error)
                self.study.tell(claim.trial, value if state == TrialState.COMPLETE else None, state)
            except (UpdateFinishedTrialError, ValueError) as ended:
                raise LostTrialError from ended
        claim.attempt.end("finished")

    def is_done(self) -> bool:
        """Return whether every trial has ended."""
        results = self.results()
        return all(number in results for number in range(self.settings["trials"]))

    def results(self, *states: TrialState) -> dict[int, FrozenTrial]:
        """Return the trials that have ended, all or those in some states, by their numbers in the sweep."""
        with reachable(self.settings["storage"]):
            ended = {
                number: next(filter(_is_result, attempts))
                for number, attempts in sorted(self._by_number().items())
                if any(map(_is_result, attempts))
            }
        return {number: trial for number, trial in ended.items() if not states or trial.state in states}

    def best(self) -> tuple[int, FrozenTrial] | None:
        """Return the complete trial of the best value, and its number; the first if equal."""
        sign = 1 if self.mode == "min" else -1
        complete = self.results(TrialState.COMPLETE).items()
        return min(complete, key=lambda pair: (sign * (pair[1].value or 0.0), pair[0]), default=None)

    def run_dir(self, number: int) -> Path:
        """Return the run folder of a trial."""
        return self.folder / "trials" / _name(number)

    def _by_number(self) -> dict[int, list[FrozenTrial]]:
        """Return Optuna's trials, that is attempts, by the number of the sweep's trial."""
        found: dict[int, list[FrozenTrial]] = {}
        for trial in self.study.get_trials(deepcopy=False):
            if NUMBER in trial.user_attrs:
                found.setdefault(trial.user_attrs[NUMBER], []).append(trial)
        return found


def _name(number: int) -> str:
    return f"{number:04d}"


def _is_result(trial: FrozenTrial) -> bool:
    """Return whether the attempt ended by itself; one that was taken over has failed without an error."""
    failed = trial.state == TrialState.FAIL and ERROR in trial.user_attrs
    return failed or trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def best_of(values: Sequence[float], mode: str) -> float | None:
    """Return the lowest or highest of the values, ignoring NaN; None without a number.

    Example:
        >>> best_of([3.0, float("nan"), 2.0], "min")
        2.0
    """
    known = [value for value in values if math.isfinite(value)]
    return (min(known) if mode == "min" else max(known)) if known else None
