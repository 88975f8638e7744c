"""Images per second of whole training steps and of evaluating forward passes: the defaults against fp32 contiguous.

    python scripts/benchmarks/training.py [--backbones vgg16 resnet50] [--batch-size 8] [--device cuda]

A training step is `LocalizerModule.training_step` (normalising, forward, loss), backward and SGD with nesterov
momentum; an evaluating pass is `LocalizerModule.maps`, which gives scores and the map of the true class. All settings
of a network take turns; medians are printed, and ratios to float32 in contiguous layout.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from measuring import alternate, machine, positive, ratio
from torch.optim import Optimizer

from wsol.backbones.base import Backbone
from wsol.backbones.resnet import ResNet
from wsol.backbones.tiny import Tiny
from wsol.backbones.vgg import VGG
from wsol.config.build import resolve_layout, resolve_precision
from wsol.engine.module import LocalizerModule
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer
from wsol.types import Batch

CLASSES = 200


class Network(NamedTuple):
    """A network to measure, with the image size and batch it is usually trained with."""

    backbone: Callable[[], Backbone]
    head: partial
    size: int
    batch: int


NETWORKS = {
    "vgg16": Network(partial(VGG, depth=16), partial(GapHead, conv_channels=1024), 224, 8),
    "resnet50": Network(partial(ResNet, depth=50, output_stride=16), partial(GapHead), 224, 8),
    "resnet18w32": Network(partial(ResNet, depth=18, width=32, output_stride=8), partial(GapHead), 64, 64),
    "tiny": Network(Tiny, partial(GapHead), 64, 64),
}


class Setting(NamedTuple):
    """How a network is run."""

    precision: str
    channels_last: bool

    @property
    def layout(self) -> str:
        """As in the config's ``memory_format``."""
        return "channels_last" if self.channels_last else "contiguous"


REFERENCE = Setting("32-true", False)


class Untracked(LocalizerModule):
    """The module outside a trainer: there is nobody to log to."""

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Log nothing."""


def autocast(precision: str, device: str) -> contextlib.AbstractContextManager:
    """What Lightning runs a step in under ``precision``."""
    lower = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    return torch.autocast(device, lower) if lower else contextlib.nullcontext()


def ways(network: Network, setting: Setting, batch: Batch, device: str) -> dict[str, Callable[[], object]]:
    """A ``training`` step and an ``evaluation`` pass, to be called again and again."""
    torch.manual_seed(0)
    sgd: Any = partial(torch.optim.SGD, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4)
    localizer = Localizer(network.backbone(), network.head, CLASSES)
    module = Untracked(localizer, optimizer=sgd, channels_last=setting.channels_last).to(device)
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, Optimizer), "without a schedule there is but the optimizer"
    scaler = torch.amp.GradScaler(device, enabled=setting.precision == "16-mixed")

    def train() -> None:
        module.train()
        with autocast(setting.precision, device):
            loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    def evaluate() -> None:
        module.eval()
        with torch.inference_mode(), autocast(setting.precision, device):
            module.maps(batch.images, batch.labels[:, None])

    return {"training": train, "evaluation": evaluate}


def made_up(count: int, size: int, device: str) -> Batch:
    """A batch of noise, laid out as the loader does."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=random).permute(0, 3, 1, 2)
    labels = torch.randint(0, CLASSES, (count,), generator=random)
    parts = (images, labels, torch.arange(count), torch.full((count, 2), size), torch.empty(0, dtype=torch.int64))
    return Batch(*(part.to(device) for part in parts))


def measure(name: str, network: Network, precision: str, repeats: int, device: str) -> None:
    """Print one line for each setting of a network: the reference, and ``precision`` in both layouts."""
    batch = made_up(network.batch, network.size, device)
    settings = dict.fromkeys((REFERENCE, Setting(precision, False), Setting(precision, True)))
    made = {setting: ways(network, setting, batch, device) for setting in settings}
    auto = resolve_precision("auto", device)
    default = {
        use: Setting(auto, resolve_layout("auto", auto, device, size))
        for use, size in (("training", network.size), ("evaluation", None))
    }
    seconds = {
        use: alternate({setting: uses[use] for setting, uses in made.items()}, repeats, device)
        for use in ("training", "evaluation")
    }
    for setting in made:
        cells = [f"{name:12} {network.size:5} {network.batch:5}  {setting.precision:10} {setting.layout:13}"]
        for use, times in seconds.items():
            rate = network.batch / statistics.median(times[setting])
            star = "*" if setting == default[use] else " "
            cells.append(f"{rate:10.2f} {ratio(times[REFERENCE], times[setting]):6.2f}{star}")
        print(*cells, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", choices=NETWORKS, default=["vgg16", "resnet50"])
    parser.add_argument("--batch-size", type=positive, help="images in a batch, instead of each network's own")
    parser.add_argument("--size", type=positive, help="side of the square images, instead of each network's own")
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="auto", help="auto (the default), 32-true, bf16-mixed or 16-mixed")
    options = parser.parse_args()
    device = options.device
    precision = resolve_precision(options.precision, device)
    print(machine(device))
    print(f"images per second, median of {options.repeats}, and ratio to {REFERENCE.precision} {REFERENCE.layout}")
    print("(* the default: precision=auto memory_format=auto):")
    print("network      image batch  precision  layout           training  ratio evaluation  ratio")
    for name in options.backbones:
        given = {"size": options.size, "batch": options.batch_size}
        network = NETWORKS[name]._replace(**{key: value for key, value in given.items() if value})
        measure(name, network, precision, options.repeats, device)


if __name__ == "__main__":
    main()
