"""The console script `wsol`: one file a verb. Nothing here imports torch before a verb really runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from wsol.cli.verbs import VERBS
from wsol.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code: 0, 2 for bad input (one clear message, no stack trace), 130 after Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except InputError as error:
        print(f"wsol: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("wsol: interrupted; give the same command with resume=true to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def _dispatch(words: list[str]) -> int:
    from wsol.cli import help as help_text

    name, rest = _split(words)
    if name is None:
        print(help_text.overview())
        return 0
    verb = VERBS[name]
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
