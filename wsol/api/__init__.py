"""The public API: list the available parts, make a network, train it, evaluate it, and predict images.

::

    import wsol

    net = wsol.create_localizer("resnet50", method="acol_1x1", num_classes=200, pretrained=True, output_stride=8)
    run = wsol.fit(net, data="cub", data_dir="data", max_epochs=50)
    results = wsol.evaluate(run, protocol="choe2020")
    found = wsol.load(run).predict("photo.jpg")

Names are those of the config groups (``configs/backbone``, ``configs/method``, ...), which the command line uses too.
`fit` does the same as `wsol train`, `evaluate` and `write_pseudo_targets` the same as `wsol eval`, and `regress` the
same as `wsol regress`; they write the same folders.
"""

from wsol.api.choices import list_backbones, list_datasets, list_explainers, list_methods, list_protocols
from wsol.api.evaluations import evaluate, write_pseudo_targets
from wsol.api.networks import create_localizer
from wsol.api.trainings import fit, regress
from wsol.engine.predictor import load

__all__ = [
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
