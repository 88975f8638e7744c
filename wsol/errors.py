"""Errors that the user can fix, and their common wording."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class InputError(ValueError):
    """Bad input: a file, a config or an argument that the user can fix.

    The message says what is wrong and where (file and line, or config key), what was expected and what to do.
    The command line prints it without a stack trace and exits with code 2.
    """


class Diverged(RuntimeError):
    """Training diverged: the loss or weights are no longer finite. The command line exits with code 1."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: the program ends as after Ctrl-C, but with exit code 143."""


def interruption(error: BaseException) -> KeyboardInterrupt | None:
    """Return the Ctrl-C or SIGTERM that caused an error; None if it has another cause.

    Lightning ends its loops with `SystemExit` after Ctrl-C, and with an exception of its own without an exit code after
    SIGTERM.

    Example:
        >>> interruption(Terminated()), interruption(SystemExit(2))
        (Terminated(), None)
    """
    if isinstance(error, KeyboardInterrupt):
        return error
    if isinstance(error, SystemExit):
        if type(error).__name__ == "SIGTERMException":
            return Terminated()
        if isinstance(error.__context__, KeyboardInterrupt):
            return error.__context__
    return None


@contextlib.contextmanager
def plain_interruptions() -> Iterator[None]:
    """Make Lightning's loops raise Ctrl-C and SIGTERM themselves instead of an exit of Lightning's."""
    try:
        yield
    except SystemExit as error:
        if (found := interruption(error)) is not None:
            raise found from None
        raise


SHOWN = 64
"""Largest number of choices that an error message names."""


def near_matches(name: str, choices: Iterable[str]) -> str:
    """Return the end of an error message that suggests near matches for a misspelt name.

    All choices are named where there are at most `SHOWN`.

    Args:
        name: the given name.
        choices: the known names.

    Example:
        >>> near_matches("resnet5", ["vgg16", "resnet50", "resnet18"])
        "did you mean 'resnet50', 'resnet18'? Choices: resnet18, resnet50, vgg16"
    """
    known = sorted(set(choices))
    close = difflib.get_close_matches(name, known, n=3 if len(known) <= SHOWN else 8, cutoff=0.6)
    question = f"did you mean {', '.join(map(repr, close))}? " if close else ""
    if len(known) <= SHOWN:
        return f"{question}Choices: {', '.join(known) or 'none'}"
    if close:
        return f"{question}There are {len(known):,} choices"
    return f"Choices: {', '.join(known[:8])} and {len(known) - 8:,} more"


def unknown(kind: str, name: str, choices: Iterable[str]) -> InputError:
    """Return the error for a name that is not among the choices, with near matches.

    Example:
        >>> str(unknown("point", "pol3", ["pool3", "pool4"]))
        "unknown point 'pol3': did you mean 'pool3', 'pool4'? Choices: pool3, pool4"
    """
    return InputError(f"unknown {kind} {name!r}: {near_matches(name, choices)}")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty.

    Example:
        >>> first_line(ValueError("no such file\\nat all")), first_line(EOFError())
        ('no such file', 'EOFError')
    """
    return next(iter(str(error).splitlines()), type(error).__name__)
