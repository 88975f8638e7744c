"""The report of the check of a dataset."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from wsol.data.regular_files import printable


class Problem(NamedTuple):
    """One fault of a dataset."""

    file: str
    line: int | None
    """Counted from 1; None if the fault is of no single line."""
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


@dataclass
class Report:
    """The result of `Source.verify`; ``str(report)`` is what `wsol data verify` prints.

    Example:
        >>> report = Report("CUB", counts={"test": {"images": 180, "boxes": 180}})
        >>> report.add("images.txt", 7, "no such file: a.jpg")
        >>> print(report)
        CUB
          test: images 180, boxes 180
        1 problem:
          images.txt:7: no such file: a.jpg
    """

    name: str
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Numbers by split, then by what is counted."""
    per_class: dict[str, dict[str, int]] = field(default_factory=dict)
    """Numbers of images by split, then by class; the smallest and the largest are printed."""
    notes: list[str] = field(default_factory=list)
    """Remarks that are not faults."""
    problems: list[Problem] = field(default_factory=list)
    """The first `keep` faults."""
    total: int = 0
    """Number of all faults."""
    keep: int = 20
    extent: str = ""
    """How the images were checked: whether pixels or only headers were read."""

    @property
    def ok(self) -> bool:
        """Whether there are no faults."""
        return not self.total

    def add(self, file: str | Path, line: int | None, text: str) -> None:
        """Count a problem, and keep it if it is among the first."""
        self.total += 1
        if len(self.problems) < self.keep:
            self.problems.append(Problem(str(file), line, text))

    def __str__(self) -> str:
        lines = [self.name]
        for split, row in self.counts.items():
            counted = [f"{what} {n:,}" for what, n in row.items()]
            if images := self.per_class.get(split):
                counted.append(f"images per class {min(images.values()):,} to {max(images.values()):,}")
            lines.append(f"  {split}: " + ", ".join(counted))
        lines += [f"note: {note}" for note in self.notes]
        lines += [self.extent] if self.extent else []
        if self.ok:
            return printable("\n".join([*lines, "no problems"]))
        more = f", the first {len(self.problems)} are" if self.total > len(self.problems) else ""
        lines.append(f"{self.total:,} problem{'s' * (self.total > 1)}{more}:")
        return printable("\n".join(lines + [f"  {problem}" for problem in self.problems]))
