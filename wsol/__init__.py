"""`wsol`: weakly supervised object localization, trained from image-level labels, judged by where the object is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsol.engine.predictor import Localizer

__version__ = "0.1.0"
__all__ = ["Localizer", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the library on first use, so that ``import wsol`` and the command line's help stay without torch."""
    if name == "Localizer":
        from wsol.engine.predictor import Localizer

        return Localizer
    raise AttributeError(f"module 'wsol' has no attribute {name!r}")
