"""Weakly supervised object localization: train from image-level labels, evaluate where the network says the object is.

::

    import wsol

    net = wsol.create_localizer("resnet50", method="acol_1x1", num_classes=200, pretrained=True, output_stride=8)
    run = wsol.fit(net, data="cub", data_dir="data", max_epochs=50)
    results = wsol.evaluate(run, protocol="choe2020")
    found = wsol.load(run).predict("photo.jpg")

``import wsol`` alone loads nothing else; the names below load PyTorch when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsol.api import (
        create_localizer,
        evaluate,
        fit,
        list_backbones,
        list_datasets,
        list_explainers,
        list_methods,
        list_protocols,
        load,
        regress,
        write_pseudo_targets,
    )
    from wsol.engine.predictor import Prediction, Predictor
    from wsol.errors import InputError
    from wsol.models.localizer import Localizer
    from wsol.runs.run import Run

__version__ = "0.1.0"
__all__ = [
    "InputError",
    "Localizer",
    "Prediction",
    "Predictor",
    "Run",
    "__version__",
    "create_localizer",
    "evaluate",
    "fit",
    "list_backbones",
    "list_datasets",
    "list_explainers",
    "list_methods",
    "list_protocols",
    "load",
    "regress",
    "write_pseudo_targets",
]

_HOMES = {
    "InputError": "wsol.errors",
    "Localizer": "wsol.models.localizer",
    "Prediction": "wsol.engine.predictor",
    "Predictor": "wsol.engine.predictor",
    "Run": "wsol.runs.run",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    from importlib import import_module

    if name in __all__:
        return getattr(import_module(_HOMES.get(name, "wsol.api")), name)
    raise AttributeError(f"module 'wsol' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
