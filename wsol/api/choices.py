"""Names of the available parts: backbones, methods, protocols, datasets and explainers."""

from __future__ import annotations

from collections.abc import Sequence

from wsol.config.argument_overrides import matching_choices


def list_backbones(pattern: str = "*", *, config_dirs: Sequence[str] = ()) -> list[str]:
    """Return the names of the backbones, including those of the user's own configs.

    Args:
        pattern: a shell pattern, such as ``"resnet*"``.
        config_dirs: folders of the user's own configs.

    Example:
        >>> list_backbones("resnet*")
        ['resnet101', 'resnet18', 'resnet34', 'resnet50']
    """
    return matching_choices("backbone", pattern, config_dirs)


def list_methods(pattern: str = "*", *, config_dirs: Sequence[str] = ()) -> list[str]:
    """Return the names of the methods; see `list_backbones`.

    Example:
        >>> list_methods("acol*")
        ['acol', 'acol_1x1', 'acol_chain']
    """
    return matching_choices("method", pattern, config_dirs)


def list_protocols(pattern: str = "*", *, config_dirs: Sequence[str] = ()) -> list[str]:
    """Return the names of the localization protocols; see `list_backbones`.

    Example:
        >>> list_protocols("choe*")
        ['choe2020', 'choe2020-v2']
    """
    return matching_choices("protocol", pattern, config_dirs)


def list_datasets(pattern: str = "*", *, config_dirs: Sequence[str] = ()) -> list[str]:
    """Return the names of the datasets; see `list_backbones`.

    Example:
        >>> list_datasets("cub*")
        ['cub', 'cub_lists']
    """
    return matching_choices("data", pattern, config_dirs)


def list_explainers(pattern: str = "*", *, config_dirs: Sequence[str] = ()) -> list[str]:
    """Return the names of the attribution methods; see `list_backbones`.

    Example:
        >>> list_explainers("grad*")
        ['gradcam', 'gradcam_pp']
    """
    return matching_choices("explainer", pattern, config_dirs)
