"""The console script `wsol`: one file per verb in `wsol.cli.verbs`."""

from wsol.cli.app import main

__all__ = ["main"]
