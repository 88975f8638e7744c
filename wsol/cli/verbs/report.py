"""`wsol report`: a page to look at, where one or several runs are right and wrong, at any threshold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsol.config.compose import compose, groups
from wsol.errors import InputError

OPTIONS = (
    "--force             replace an earlier report in the output folder; force=true is the same",
    "--config-dir DIR    add a folder of your own configs (may be repeated)",
)


def run(words: Sequence[str]) -> int:
    """Report under the words of a command line; returns the exit code."""
    if {"-h", "--help"} & set(words):
        print(usage())
        return 0
    folders, overrides, config_dirs = divide(words)
    config = compose("report", overrides, config_dirs)
    from wsol.cli import screen
    from wsol.report.report_runs import report  # imports torch

    screen.start_logging()
    with screen.progress() as progress:
        written = report(folders, config, progress)
    if written is not None:
        out = written.folder
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        print(
            f"{written.images:,} images, {size / 1e6:.0f} MB, written to {out}; open {out / 'index.html'} in a browser"
        )
    return 0


def usage() -> str:
    """`wsol report --help`."""
    from wsol.cli.help import plain_keys
    from wsol.cli.verbs import VERBS
    from wsol.config.schema import Report

    choices = groups().get("protocol", {})
    width = max(map(len, choices), default=0)
    return "\n".join(
        [
            "wsol report: " + VERBS["report"].summary,
            "",
            "usage: wsol report RUN... [OPTION]... [KEY=VALUE]...",
            f"example: {VERBS['report'].example}",
            "",
            "RUN is a folder of `wsol train`, or of `wsol eval save_maps=true`, such as one with explainer=gradcam.",
            "Where a run has no saved maps of the split, its network makes them once (`wsol eval save_maps=true`).",
            "",
            "options:",
            *(f"  {option}" for option in OPTIONS),
            "",
            "groups (GROUP=CHOICE):",
            "  protocol",
            *(f"    {choice:<{width}}  {about}" for choice, about in choices.items()),
            "",
            "keys (KEY=VALUE):",
            *plain_keys(Report),
        ]
    )


def divide(words: Sequence[str]) -> tuple[list[Path], list[str], list[str]]:
    """Divide the words into run folders, overrides and config folders.

    Example:
        >>> divide(["runs/a", "split=val", "--force", "runs/b"])
        ([PosixPath('runs/a'), PosixPath('runs/b')], ['split=val', 'force=true'], [])
    """
    folders: list[Path] = []
    overrides: list[str] = []
    config_dirs: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--force":
            overrides.append("force=true")
        elif word == "--config-dir" and rest:
            config_dirs.append(rest.pop(0))
        elif word.startswith("-"):
            raise InputError(
                f"wsol report: unknown option {word!r}; options are --help, --force, --config-dir DIR, "
                "config keys are set by KEY=VALUE"
            )
        elif "=" in word and not Path(word).is_dir():
            overrides.append(word)
        else:
            folders.append(Path(word))
    if not folders:
        raise InputError("which runs? wsol report <run folder>..., or wsol report --help")
    return folders, overrides, config_dirs
