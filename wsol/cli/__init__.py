"""The console script `wsol`: one file a verb in `wsol.cli.verbs`."""

from wsol.cli.app import main

__all__ = ["main"]
