"""metrics.csv and steps.csv: one row per logged step, appended during training, consistent after a resume.

``metrics.csv`` contains the means of each epoch, ``steps.csv`` the values of single steps (names ending in ``_step``).
"""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from wsol.data.regular_files import read_regular
from wsol.errors import InputError, first_line
from wsol.files import atomic_file

log = logging.getLogger("wsol")


class MetricsCsv(Logger):
    """A Lightning logger that keeps the rows of earlier starts of the same run.

    Columns are ``epoch``, ``step`` and every metric seen so far; a metric that is not logged at a step is empty. When a
    run is resumed from a checkpoint, the rows of later steps are dropped, because they will be logged again.

    Args:
        file: file to write.
        of_steps: True to log values of single steps, False for all others.

    Raises:
        InputError: the file exists, but it is damaged, or no `MetricsCsv` wrote it.
    """

    def __init__(self, file: Path, *, of_steps: bool = False) -> None:
        super().__init__()
        self.file, self.of_steps = file, of_steps
        self.rows: list[dict[str, str]] = []
        self._is_saved = True
        if file.exists():
            self.rows = _read(file)

    @property
    def name(self) -> str:
        """Lightning's name for the logger."""
        return ""

    @property
    def version(self) -> str:
        """Lightning's version of the logger."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder, where Lightning puts its own files."""
        return str(self.file.parent)

    def restart(self, step: int) -> None:
        """Drop the rows after optimizer step ``step``, from which training continues."""
        kept = [row for row in self.rows if int(row["step"]) < step]
        self._is_saved = self._is_saved and len(kept) == len(self.rows)
        self.rows = kept
        if step and not self.rows and not self.of_steps:
            log.warning("%s has no values for the first %d steps; they stay missing", self.file, step)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add the values to the row of this step."""
        wanted = {name for name in metrics if name != "epoch" and name.endswith("_step") == self.of_steps}
        if not wanted:
            return
        values = {name: _text(value) for name, value in metrics.items() if name in wanted or name == "epoch"}
        self._is_saved = False
        key = str(step if step is not None else len(self.rows))
        if self.rows and self.rows[-1]["step"] == key:
            self.rows[-1].update(values)
        else:
            self.rows.append({"step": key, **values})

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml has the hyperparameters."""

    @rank_zero_only
    def save(self) -> None:
        """Write the file if there are new values.

        Raises:
            OSError: it cannot be written; the existing file is unchanged.
        """
        if self._is_saved:
            return
        names = sorted({name for row in self.rows for name in row} - {"epoch", "step"})
        text = io.StringIO()
        writer = csv.DictWriter(text, ["epoch", "step", *names], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        with atomic_file(self.file) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")
        self._is_saved = True

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the file a last time; after a failure, ignore a full disk so that the failure is reported."""
        with contextlib.suppress(*([] if status == "success" else [OSError])):
            self.save()


def _read(file: Path) -> list[dict[str, str]]:
    """Return the rows of a file that this logger wrote, without empty cells."""
    try:
        text = read_regular(file).decode("utf-8")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = list(reader)
        if "step" not in (reader.fieldnames or ()):
            raise ValueError("no column `step`")
        if not text.endswith("\n"):
            raise ValueError("its last line is cut off")
        for number, row in enumerate(rows, start=2):
            if None in row or None in row.values() or not re.fullmatch(r"\d{1,18}", row["step"]):
                raise ValueError(f"line {number}: expected a value for each column, and a whole number as step")
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"{file}: not what `wsol train` wrote ({first_line(error)}); restore it, or remove it to continue without "
            "the previous values"
        ) from error
    return [{name: value for name, value in row.items() if value} for row in rows]


def _text(value: float) -> str:
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else f"{number:.6g}"
