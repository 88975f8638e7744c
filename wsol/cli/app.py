"""The console script `wsol`: one file a verb. Nothing here imports torch before a verb really runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from wsol.cli import failures
from wsol.cli.verbs import VERBS
from wsol.errors import InputError

RESUME = "give the same command with resume=true"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code, see `wsol.cli.failures`."""
    words = list(sys.argv[1:] if argv is None else argv)
    _import_from_here()
    try:
        return run_job(words)
    except (KeyboardInterrupt, SystemExit) as error:
        ended = failures.interrupted(error, _remains(words))
        if ended is None:
            raise
        failures.say(ended[0], once=True)
        return ended[1]


def _import_from_here() -> None:
    """Let packages in the working directory be imported, but behind the installed ones."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def run_job(words: Sequence[str]) -> int:
    """Run a verb as `main` does, but let Ctrl-C and SIGTERM through, for what runs several of them."""
    try:
        with failures.sigterm_raises():
            return _dispatch(list(words))
    except BrokenPipeError:
        return 0
    except Exception as error:
        if (interruption := failures.interruption_below(error)) is not None:
            raise interruption from None
        explained = failures.explain(error)
        if explained is None or failures.show_traceback():
            raise
        failures.say(f"error: {explained[0]}")
        return explained[1]


def _remains(words: Sequence[str]) -> str:
    """What an interrupted verb leaves, and how to go on."""
    try:
        name, rest = _split(list(words))
    except InputError:
        name, rest = None, []
    if name is None:
        return "nothing was begun"
    verb = VERBS[name]
    if not verb.resumes:
        return verb.interrupted
    how = "give the same command again" if any(word.startswith("resume=") for word in rest) else RESUME
    several = "finished jobs are kept; " if {"-m", "--multirun"} & set(rest) else ""
    return f"{several}{how} to go on"


def _dispatch(words: list[str]) -> int:
    from wsol.cli import help as help_text

    name, rest = _split(words)
    if name is None:
        print(help_text.overview())
        return 0
    verb = VERBS[name]
    rest = _search_path_as_options(rest)
    if verb.config is None:
        return verb.load()(rest)
    options, overrides = _parser(name).parse_known_args(rest)
    for word in overrides:
        if word.startswith("-"):
            raise InputError(
                f"wsol {name}: unknown option {word!r}; options are --help, --multirun, --config-dir DIR and --cfg, "
                "config keys are set by KEY=VALUE"
            )
    if options.help:
        print(help_text.verb(name, options.config_dir))
        return 0
    return _compose_and_run(name, options, overrides)


def _search_path_as_options(words: list[str]) -> list[str]:
    """Give Hydra's ``hydra.searchpath=[...]`` as ``--config-dir``, which every verb with configs knows."""
    if not any("hydra.searchpath=" in word for word in words):
        return words
    from wsol.config.search_path import take_search_path

    rest, folders = take_search_path(words)
    return [*rest, *(word for folder in folders for word in ("--config-dir", folder))]


def _split(words: list[str]) -> tuple[str | None, list[str]]:
    """Divide the words into the verb (one or two words) and the rest; None asks for help."""
    from wsol.errors import unknown

    if not words or words[0] in ("-h", "--help", "help"):
        return None, []
    if words[0] == "--version":
        from wsol import __version__

        print(f"wsol {__version__}")
        raise SystemExit(0)
    for length in (2, 1):
        if (name := " ".join(words[:length])) in VERBS and len(words) >= length:
            return name, words[length:]
    family = [name for name in VERBS if name.startswith(f"{words[0]} ")]
    if family:
        raise InputError(f"`wsol {words[0]}` needs one of: {', '.join(family)}")
    raise unknown("verb", words[0], VERBS)


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"wsol {name}", add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--config-dir", action="append", default=[])
    parser.add_argument("--cfg", action="store_true")
    return parser


def _compose_and_run(name: str, options: argparse.Namespace, overrides: list[str]) -> int:
    from wsol.config.compose import check_resolves, compose

    verb = VERBS[name]
    assert verb.config is not None
    if options.multirun:
        from wsol.cli.multirun import multirun

        return multirun(name, overrides, options.config_dir)
    config = compose(verb.config, overrides, options.config_dir)
    if options.cfg:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(config), end="")
        return 0
    check_resolves(config)
    print(f"wsol {name}: loading PyTorch ...", file=sys.stderr, flush=True)
    return verb.load()(config)
