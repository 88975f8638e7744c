"""The console script `wsol`: one grammar for all verbs. Torch is only imported when a verb runs.

::

    wsol VERB [RUN ...] [KEY=VALUE ...] [--config-dir DIR] [-m] [--cfg] [--out DIR] [--force]

Click reads the options, which may stand anywhere. `wsol.cli.call` makes a config from the other words.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from wsol.cli import failures
from wsol.cli.completion import VARIABLE, complete, complete_word
from wsol.cli.verbs import VERBS, Verb
from wsol.errors import InputError, unknown
from wsol.process_memory import keep_large_blocks

if TYPE_CHECKING:
    from wsol.cli.call import Call

RESUME = "give the same command with resume=true"
OPTIONS = {
    "help": (["--help", "-h"], {"is_flag": True}),
    "config_dirs": (["--config-dir", "-cd"], {"multiple": True, "type": click.Path()}),
    "multirun": (["--multirun", "-m"], {"is_flag": True}),
    "cfg": (["--cfg"], {"is_flag": True}),
    "out": (["--out"], {"type": click.Path()}),
    "force": (["--force"], {"is_flag": True}),
    "json": (["--json"], {"is_flag": True}),
}
"""The options that all verbs share; only verbs with the key have ``--json``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code, see `wsol.cli.failures`."""
    words = list(sys.argv[1:] if argv is None else argv)
    _import_from_here()
    keep_large_blocks()
    try:
        return run_job(words)
    except (KeyboardInterrupt, SystemExit) as error:
        ended = failures.interrupted(error, _remains(words))
        if ended is None:
            raise
        failures.say(ended[0], once=True)
        return ended[1]


def _import_from_here() -> None:
    """Let packages in the working directory be imported; installed ones take precedence."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def run_job(words: Sequence[str]) -> int:
    """Run a verb like `main`, but pass on Ctrl-C and SIGTERM, for callers that run several verbs."""
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
    """Return what an interrupted verb leaves, and how to continue."""
    name = next((name for name in VERBS if list(words[: len(parts := name.split())]) == parts), None)
    if name is None:
        return "nothing was started"
    verb = VERBS[name]
    several = "finished jobs are kept; " if {"-m", "--multirun"} & set(words) else ""
    if not verb.resumes:
        return f"{several}{verb.interrupted}"
    how = "give the same command again" if any(word.startswith("resume=") for word in words) else RESUME
    return f"{several}{how} to continue"


def _dispatch(words: list[str]) -> int:
    if VARIABLE in os.environ:
        return complete(program())
    read = parse(words)
    if read is None:
        return 0
    from wsol.cli import call

    return call.run(read)


def parse(words: Sequence[str]) -> Call | None:
    """Read the words of a command line; None if they ask for help that belongs to no verb, which is printed.

    Raises:
        InputError: an unknown verb or option, or too many words.
    """
    words = [*words[1:], "--help"] if words[:1] == ["help"] else list(words)
    try:
        context = program().make_context("wsol", words or ["--help"])
        with context:
            read: Call = context.command.invoke(context)
            return read
    except click.exceptions.Exit:
        return None
    except click.NoSuchOption as error:
        known = [names[0] for names, _ in OPTIONS.values()]
        raise InputError(
            f"unknown option {error.option_name!r}; options are {', '.join(known)}; keys are set by KEY=VALUE"
        ) from None
    except click.UsageError as error:
        raise InputError(error.format_message().rstrip(".")) from None


def program() -> click.Group:
    """Return all verbs as a Click command."""
    return _Verbs("wsol", params=[_version()])


def _version() -> click.Option:
    def show(context: click.Context, _: click.Parameter, value: bool) -> None:
        """Print the version and exit."""
        if value:
            from wsol import __version__

            click.echo(f"wsol {__version__}")
            context.exit()

    return click.Option(["--version"], is_flag=True, expose_value=False, is_eager=True, callback=show)


class _Verbs(click.Group):
    """All verbs, or those of a family such as ``data``; each is created on first use."""

    def __init__(self, name: str, params: Sequence[click.Parameter] = ()) -> None:
        super().__init__(name, params=list(params), context_settings={"help_option_names": ["-h", "--help"]})
        self.family = "" if name == "wsol" else f"{name} "

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of verbs and families, without the verbs of families."""
        own = [name.removeprefix(self.family) for name in VERBS if name.startswith(self.family)]
        return list(dict.fromkeys(name.partition(" ")[0] for name in own))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the verb or the family with a name."""
        name = f"{self.family}{cmd_name}"
        if name in VERBS:
            return _Command(name, VERBS[name])
        return _Verbs(name) if cmd_name in self.list_commands(ctx) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the verb that the first word names, and the remaining words."""
        command = self.get_command(ctx, args[0])
        if command is None and ctx.resilient_parsing:
            return None, None, args[1:]
        if command is None:
            raise unknown(
                f"verb of `wsol {self.family.strip()}`" if self.family else "verb", args[0], self.list_commands(ctx)
            )
        return args[0], command, args[1:]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse a family without a verb."""
        if not args and not ctx.resilient_parsing:
            family = f"wsol {self.family.strip()}"
            complete = ", ".join(f"`{family} {name}`" for name in self.list_commands(ctx))
            raise InputError(f"`{family}` is a family of verbs; expected one of {complete}")
        return super().parse_args(ctx, args)

    def get_help(self, ctx: click.Context) -> str:
        """See `wsol.cli.help`."""
        from wsol.cli import help as help_text

        return help_text.family(self.family.strip()) if self.family else help_text.overview()


class _Command(click.Command):
    """A verb."""

    def __init__(self, name: str, verb: Verb) -> None:
        from wsol.config import schema

        has_json = "json" in schema.keys(verb.config)
        options = [
            click.Option([*names, key], **settings)  # type: ignore[arg-type]
            for key, (names, settings) in OPTIONS.items()
            if key != "json" or has_json
        ]
        words = click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, shell_complete=complete_word(name))
        super().__init__(
            name, params=[*options, words], callback=self._read, add_help_option=False, short_help=verb.summary
        )

    def _read(self, words: tuple[str, ...], config_dirs: tuple[str, ...], help: bool, **options: Any) -> Call:
        from wsol.cli import call

        return call.read(str(self.name), words, config_dirs, help, **options)
