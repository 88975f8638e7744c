"""What a training step of a method costs beside another: time, floating-point operations, and the one over the other.

    python scripts/benchmarks/methods.py [--methods acol] [--baseline cam_conv] [--backbone vgg16] [--device cuda]

A step is `LocalizerModule.training_step` (batch transforms, forward, loss), backward and SGD with nesterov momentum, in
the default precision and layout. All methods take turns with the baseline on the same backbone; operations are counted
by torch in one such step. A quotient of 1 says that a method costs what its convolutions cost, and nothing beside.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from measuring import alternate, machine, positive, ratio
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode
from training import CLASSES, Untracked, autocast, made_up

from wsol.config import build
from wsol.config.compose import compose, groups
from wsol.types import Batch


def training_step(method: str, backbone: str, batch: Batch, device: str, precision: str) -> Callable[[], None]:
    """A step of a method of configs/method on a backbone of configs/backbone, both with the defaults written there."""
    torch.manual_seed(0)
    config = compose("train", [f"backbone={backbone}", f"method={method}"])
    localizer = build.build_localizer(config, tuple(map(str, range(CLASSES))))
    transforms = [build.instantiate(node, "method.batch_transforms") for node in config.method.batch_transforms]
    layout = build.resolve_layout("auto", precision, device, batch.images.shape[-1])
    sgd: Any = partial(torch.optim.SGD, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4)
    module = Untracked(localizer, optimizer=sgd, batch_transforms=transforms, channels_last=layout).to(device).train()
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, Optimizer), "without a schedule there is but the optimizer"
    scaler = torch.amp.GradScaler(device, enabled=precision == "16-mixed")

    def step() -> None:
        with autocast(precision, device):
            loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def operations(step: Callable[[], None]) -> int:
    """Floating-point operations of one step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def main() -> None:
    """Measure and print."""
    choices = groups()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=choices["method"], default=["acol"])
    parser.add_argument("--baseline", choices=choices["method"], default="cam_conv")
    parser.add_argument("--backbone", choices=choices["backbone"], default="vgg16")
    parser.add_argument("--batch-size", type=positive, default=8)
    parser.add_argument("--size", type=positive, default=224, help="side of the square images")
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="auto", help="auto (the default), 32-true, bf16-mixed or 16-mixed")
    options = parser.parse_args()
    precision = build.resolve_precision(options.precision, options.device)
    batch = made_up(options.batch_size, options.size, options.device)
    names = dict.fromkeys((options.baseline, *options.methods))
    steps = {name: training_step(name, options.backbone, batch, options.device, precision) for name in names}
    counts = {name: operations(step) for name, step in steps.items()}
    seconds = alternate(steps, options.repeats, options.device)
    print(machine(options.device))
    print(
        f"{options.backbone}, {options.batch_size} images of {options.size}, {precision}; medians of {options.repeats}"
    )
    print(f"ratios to {options.baseline}:")
    print(f"{'method':16} {'ms a step':>10} {'GFLOP':>10} {'time':>7} {'FLOP':>7} {'time / FLOP':>12}")
    for name in names:
        time, work = ratio(seconds[name], seconds[options.baseline]), counts[name] / counts[options.baseline]
        cells = f"{1000 * statistics.median(seconds[name]):10.1f} {counts[name] / 1e9:10.1f} {time:7.3f} {work:7.3f}"
        print(f"{name:16} {cells} {time / work:12.3f}", flush=True)


if __name__ == "__main__":
    main()
