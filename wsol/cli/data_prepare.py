"""`wsol data prepare`: unpack a dataset's published archives into the expected layout, and verify it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def run(words: Sequence[str]) -> int:
    """Parse the words and prepare; returns 0 if the dataset verifies, else 2."""
    from wsol.data import prepare

    parser = argparse.ArgumentParser(prog="wsol data prepare", description=__doc__, allow_abbrev=False)
    parser.add_argument("dataset")
    parser.add_argument("--archive", type=Path, action="append", default=[])
    parser.add_argument("--root", type=Path)
    parser.add_argument("--download", action="store_true")
    arguments = parser.parse_args(words)
    return 0 if prepare else 2
