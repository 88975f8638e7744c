"""Packages that only some parts of wsol need, and the extra of `pip install "wsol[...]"` that installs each."""

from __future__ import annotations

import importlib.util

from wsol.errors import InputError

EXTRAS = {
    "wandb": "train",
    "tensorboard": "train",
    "optuna": "sweep",
    "sklearn": "features",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
    "submitit": "slurm",
}
"""Extra by the name of the module."""


class MissingExtra(InputError, ImportError):
    """A package that an extra installs is missing."""


def need(*modules: str, what: str) -> None:
    """Refuse where a package is missing; called before it is imported.

    Args:
        modules: names in `EXTRAS`.
        what: what needs them, for the message.

    Raises:
        MissingExtra: with the command that installs them.

    Example:
        >>> need("optuna", what="wsol sweep")
    """
    missing = [name for name in modules if not _is_installed(name)]
    if missing:
        raise MissingExtra(f'{what} needs {", ".join(missing)}: pip install "wsol[{EXTRAS[missing[0]]}]"')


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a package above it
        return False
