"""Variables of SLURM and torchrun, and a clean environment, for the tests of launchers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pytorch_lightning.utilities.rank_zero import rank_zero_only


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch):
    """Set variables of a launcher; all that Lightning sets in answer is taken back."""
    before = dict(os.environ)
    monkeypatch.setattr(rank_zero_only, "rank", 0)

    def place(variables: dict[str, str]) -> None:
        os.environ.update(variables)

    yield place
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a started program: nothing left of another run, wandb offline."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "WANDB"))}
    here = str(Path(__file__).parents[2])
    return {**mine, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "PYTHONPATH": here, "HOME": str(tmp_path)}
