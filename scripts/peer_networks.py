"""Scores, maps and losses of other programs' networks against those of the same weights after `wsol convert`.

    python scripts/peer_networks.py --peer <checkout of wsolevaluation> --peer <checkout of ACoL>

The peers are https://github.com/clovaai/wsolevaluation (Choe et al. 2020), https://github.com/xiaomengyc/ACoL
(Zhang et al. 2018) and https://github.com/zh460045050/DA-WSOL_CVPR2022 (Zhu et al. 2022), run as they stand in the
checkouts, on the CPU. Each network gets random weights, batch norms the statistics of the images; its checkpoint is
written as the peer's trainer writes it, converted, loaded, and both networks see the same random images. Largest
difference over the largest value is printed, for scores, maps (in the peer's convention, see docs/peers.md) and the
training loss. The exit code is 1 if one exceeds the tolerance.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import itertools
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsol.cli import main as wsol_main
from wsol.models.localizer import Localizer
from wsol.runs import checkpoints

SIDE, IMAGES, CLASSES = 224, 2, 7
TOLERANCE = 1e-5
THRESHOLDS = ((0.7, 0.01), (0.5, 0.05), (0.7, 0.1))
"""Of SPG: wsolevaluation's defaults."""
OPTIONS = {"num_classes": CLASSES, "acol_drop_threshold": 0.7, "adl_drop_rate": 0.75, "adl_drop_threshold": 0.9}


class Seen(NamedTuple):
    """What a network makes of images and their labels."""

    logits: Tensor
    """float32 (N, K)."""
    maps: Tensor
    """float32 (N, h, w), of the labels."""
    loss: Tensor
    """float32 ()."""


class Case(NamedTuple):
    """A network of a peer."""

    name: str
    network: nn.Module
    saved: dict
    """What the peer's trainer saves."""
    look: Callable[[Tensor, Tensor], Seen]
    convention: Callable[[Localizer, Tensor, Tensor], Tensor]
    """From our maps (N, h, w) of labels (N,) to theirs."""
    words: tuple[str, ...]
    """For `wsol convert`."""
    term: str | None = None
    """The part of our loss that theirs is; None for all of it."""


def as_it_is(localizer: Localizer, maps: Tensor, labels: Tensor) -> Tensor:
    """ACoL: the same."""
    return maps


def mean_over_channels(localizer: Localizer, maps: Tensor, labels: Tensor) -> Tensor:
    """CAM and ADL of wsolevaluation: the mean over channels, where the paper has the sum."""
    return maps / localizer.head.get_submodule("classifier").in_features  # type: ignore[operator]


def with_bias(localizer: Localizer, maps: Tensor, labels: Tensor) -> Tensor:
    """SPG of wsolevaluation: the plane of a convolution, its bias included."""
    return maps + localizer.head.get_parameter("branch.classifier.bias")[labels, None, None]


def load(checkout: Path, name: str, file: str) -> types.ModuleType:
    """Import a file of a checkout, with the package around it if it is a package's, under a name of its own."""
    path = checkout / file
    package = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=package)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def wsolevaluation(checkout: Path) -> Iterator[Case]:
    """CAM, ACoL, SPG and ADL on VGG-16 and ResNet-50, with small and large maps."""
    peer = load(checkout, "peer_wsolevaluation", "wsol/__init__.py")
    spg_loss, acol_loss = sys.modules["peer_wsolevaluation.method.spg"], sys.modules["peer_wsolevaluation.method.acol"]
    losses = {
        "acol": lambda output, labels: acol_loss.get_loss(output, labels),
        "spg": lambda output, labels: spg_loss.get_loss(output, labels, THRESHOLDS),
    }
    conventions = {"acol": as_it_is, "spg": with_bias}
    grid = itertools.product(("cam", "acol", "spg", "adl"), ("vgg16", "resnet50"), (False, True))
    for method, architecture, large in grid:
        network = getattr(peer, architecture)(method, large_feature_map=large, **OPTIONS)
        randomise(network)

        def look(images: Tensor, labels: Tensor, network: nn.Module = network, method: str = method) -> Seen:
            output = network(images, labels)
            loss = losses.get(method, lambda output, labels: F.cross_entropy(output["logits"], labels))(output, labels)
            return Seen(output["logits"], network(images, labels, return_cam=True), loss)

        yield Case(
            f"wsolevaluation {method} {architecture} {'28x28' if large else '14x14'}",
            network,
            {"architecture": architecture, "epoch": 1, "state_dict": network.state_dict(), "optimizer": {}},
            look,
            conventions.get(method, mean_over_channels),
            (f"output_stride={8 if large else 16}",),
        )


def acol(checkout: Path) -> Iterator[Case]:
    """ACoL on VGG-16, as its authors released it; erased by the labels."""
    peer = load(checkout, "peer_acol", "models/vgg/vgg_v1.py")
    arguments = argparse.Namespace(onehot="False")
    network = peer.model(pretrained=False, num_classes=CLASSES, args=arguments, threshold=0.6)
    randomise(network)

    def look(images: Tensor, labels: Tensor) -> Seen:
        logits = network(images, labels)
        maps = network.get_localization_maps()[range(len(labels)), labels]
        return Seen(logits[0], maps, network.get_loss(logits, labels)[0])

    parallel = {f"module.{name}": value for name, value in network.state_dict().items()}
    saved = {"epoch": 1, "arch": "resnet", "global_counter": 1, "state_dict": parallel, "optimizer": {}}
    yield Case("ACoL's authors vgg16", network, saved, look, as_it_is, ())


def dawsol(checkout: Path) -> Iterator[Case]:
    """DA-WSOL on ResNet-50, with and without ADL, and on Inception-v3; of the loss, the part that is not random."""
    load(checkout, "peer_dawsol", "libs/wsol/__init__.py")
    backbones = load(checkout, "peer_dawsol.model.backbone", "libs/wsol/model/backbone.py")
    classifiers = load(checkout, "peer_dawsol.model.classifier", "libs/wsol/model/classifier.py")
    grid = itertools.product(("resnet50", "resnet50_adl", "inception_v3"), (False, True))
    for architecture, large in grid:
        extractor = getattr(backbones, architecture)("cam", large_feature_map=large, **OPTIONS)
        classifier = classifiers.CAMClassifier(CLASSES, 1024 if architecture == "inception_v3" else 2048)
        randomise(extractor)
        nn.init.normal_(classifier.fc.bias, 0, 0.05)
        classifier.eval()

        def look(
            images: Tensor, labels: Tensor, extractor: nn.Module = extractor, classifier: nn.Module = classifier
        ) -> Seen:
            features = extractor(images)
            logits = classifier(F.adaptive_avg_pool2d(features, 1)).flatten(1)
            return Seen(logits, classifier(features)[range(len(labels)), labels], F.cross_entropy(logits, labels))

        saved = {
            f"state_dict_{name}": part.state_dict()
            for name, part in (("extractor", extractor), ("classifier", classifier))
        }
        yield Case(
            f"DA-WSOL's authors {architecture} {'28x28' if large else '14x14'}",
            extractor,
            {"architecture": architecture, "epoch": 1, **saved, "optimizer_extractor": {}, "optimizer_classifier": {}},
            look,
            as_it_is,
            (f"output_stride={8 if large else 16}",),
            "classification",
        )


PEERS = {"libs/wsol/model/backbone.py": dawsol, "wsol/vgg.py": wsolevaluation, "models/vgg/vgg_v1.py": acol}
"""By a file that the checkout has."""


def randomise(network: nn.Module) -> None:
    """Give the biases values, and the batch norms the statistics of random images."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, 0, 0.05)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if norms:
        for norm in norms:
            norm.momentum = 1.0
        network.train()(torch.randn(IMAGES, 3, SIDE, SIDE), torch.arange(IMAGES))
    network.eval()


@contextlib.contextmanager
def without_cuda() -> Iterator[None]:
    """Let ``tensor.cuda()`` return the tensor: the peers ask for a GPU in the middle of a forward pass."""
    before = torch.Tensor.cuda
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        torch.Tensor.cuda = before  # type: ignore[method-assign]


def ours(case: Case, folder: Path, images: Tensor, labels: Tensor) -> Seen:
    """Convert the peer's checkpoint, load ours, and look at the images; maps in the peer's convention."""
    torch.save(case.saved, folder / "theirs.pth.tar")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = wsol_main(["convert", f"weights={folder / 'theirs.pth.tar'}", f"out={folder / 'run'}", *case.words])
    if code:
        raise SystemExit(code)
    file = folder / "run" / "checkpoints" / "last.ckpt"
    localizer, _ = checkpoints.load_localizer(checkpoints.read(file), file)
    localizer.eval()
    output = localizer(images, labels)
    maps = case.convention(localizer, localizer.maps(output, labels[:, None])[:, 0], labels)
    terms = localizer.loss(output, F.one_hot(labels, CLASSES).float())
    loss = terms[case.term] if case.term else torch.stack(list(terms.values())).sum()
    return Seen(output.logits, maps, loss)


def main() -> int:
    """Compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, action="append", required=True, help="checkout of a peer; may be repeated")
    parser.add_argument("--only", default="", help="compare the networks only whose name has this in it")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = [(PEERS[file], path) for path in args.peer for file in PEERS if (path / file).is_file()]
    if len(found) != len(args.peer):
        parser.error(
            f"--peer: expected checkouts of wsolevaluation, ACoL or DA-WSOL, with {' or '.join(PEERS)} in them"
        )
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning)
    print(f"{'network':40} {'scores':>9} {'maps':>9} {'loss':>9}   largest score", flush=True)
    worst = 0.0
    torch.manual_seed(args.seed)
    for make, checkout in found:
        with without_cuda(), torch.no_grad():
            for case in make(checkout):
                if args.only not in case.name:
                    continue
                images, labels = torch.randn(IMAGES, 3, SIDE, SIDE), torch.tensor([3, 5])
                with tempfile.TemporaryDirectory() as folder:
                    here = ours(case, Path(folder), images, labels)
                there = case.look(images, labels)
                errors = [
                    ((a - b).abs().max() / b.abs().max()).item() if a.shape == b.shape else float("inf")
                    for a, b in zip(here, there, strict=True)
                ]
                worst = max(worst, *errors)
                shown = " ".join(f"{error:9.1e}" for error in errors)
                print(f"{case.name:40} {shown}   {there.logits.abs().max().item():.3g}", flush=True)
    print(f"worst {worst:.1e}, tolerance {TOLERANCE:.0e}")
    return int(not worst <= TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
