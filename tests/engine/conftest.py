"""A small dataset for the tests of the engine."""

from __future__ import annotations

import pytest

from tests.engine.modules import SIDE
from wsol.data.datasets.creatures import Creatures


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Creatures:
    return Creatures(tmp_path_factory.mktemp("creatures"), 24, 6, 6, size=SIDE)
