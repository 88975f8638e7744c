"""Checks of a composed config: something reads every key, and no part of a training is missing.

Hydra lets ``+key=value`` and the files of the groups add any key. Parts with a ``_target_`` are checked against its
signature (`wsol.config.construct`); the others here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from omegaconf import DictConfig

from wsol.errors import InputError, near_matches

PARTS: Mapping[str, tuple[str, ...]] = {
    "method": ("head", "edits", "batch_transforms", "pretrained_classifier", "options"),
    "optim": ("optimizer", "groups"),
    "transform": ("train", "eval"),
}
"""Keys of the groups whose choices are no single object; other keys of a method refer to values in its ``options``."""

TRAINING = ("data", "transform", "loader", "backbone", "method", "optim", "schedule", "trainer")
"""Groups that every training needs."""


def check_keys(config: DictConfig, known: Collection[str]) -> None:
    """Refuse keys that nothing reads, and a training without one of its parts.

    Args:
        config: composed config of a verb.
        known: keys of the verb.

    Raises:
        InputError: names the key, with near matches.

    Example:
        >>> check_keys(DictConfig({"method": {"head": {}, "batch_transform": []}}), ["method"])
        Traceback (most recent call last):
        wsol.errors.InputError: method.batch_transform: nothing reads this key; did you mean 'batch_transforms'? \
Choices: batch_transforms, edits, head, options, pretrained_classifier
    """
    _refuse_others("", config, known)
    for group, keys in PARTS.items():
        if isinstance(node := config.get(group), DictConfig):
            _refuse_others(f"{group}.", node, keys)
    for group in TRAINING if "optim" in known else ():
        if config.get(group) is None:
            raise InputError(f"{group}: a training needs a choice of this group; leave ~{group} out")


def _refuse_others(prefix: str, node: DictConfig, known: Collection[str]) -> None:
    for key in map(str, node):
        if key not in known:
            raise InputError(f"{prefix}{key}: nothing reads this key; {near_matches(key, known)}")
