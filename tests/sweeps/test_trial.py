"""A trial of a search writes nothing to the screen, Lightning's own messages included."""

from __future__ import annotations

import logging

from wsol.sweeps.trial import _quiet


def test_lightning_is_quiet_in_a_trial_and_as_before_after_it() -> None:
    logger = logging.getLogger("pytorch_lightning")
    before = logger.level
    with _quiet():
        assert not logger.isEnabledFor(logging.INFO)
        assert logger.isEnabledFor(logging.WARNING)
    assert logger.level == before
