"""What an explainer costs beside one forward and one backward pass of the network, for one class and for five.

    python scripts/benchmarks/explainers.py [--explainers gradcam] [--network resnet18] [--device cuda]

The pass that is the measure goes forward to the class scores and back to the weights, as in training, in evaluation
mode and float32. All ways take turns. A quotient below 1.1 is what Grad-CAM promises; five classes must cost less than
five times one.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
import yaml
from measuring import alternate, machine, positive, ratio

from wsol.config import build
from wsol.config.compose import config_root, groups
from wsol.models.pretrained import torchvision_classifier


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--explainers", nargs="+", choices=groups()["explainer"], default=["gradcam"])
    parser.add_argument("--network", default="resnet18", help="torchvision's name")
    parser.add_argument("--batch-size", type=positive, default=16)
    parser.add_argument("--size", type=positive, default=224, help="side of the square images")
    parser.add_argument("--repeats", type=positive, default=7)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = torchvision_classifier(options.network).network.to(options.device).eval()
    images = torch.randn(options.batch_size, 3, options.size, options.size, device=options.device)
    classes = torch.arange(5, device=options.device).expand(len(images), -1)

    def passes() -> None:
        torch.autograd.grad(network(images).gather(1, classes[:, :1]).sum(), list(network.parameters()))

    ways: dict[str, Callable[[], object]] = {"passes": passes}
    for name in options.explainers:
        node = yaml.safe_load((config_root() / "explainer" / f"{name}.yaml").read_text(encoding="utf-8"))
        explainer = build.instantiate(node, "explainer")
        ways |= {f"{name}, {m}": partial(explainer, network, images, classes[:, :m]) for m in (1, 5)}
    seconds = alternate(ways, options.repeats, options.device)
    print(machine(options.device))
    print(f"{options.network}, {options.batch_size} images of {options.size}, float32; medians of {options.repeats}")
    print(f"{'explainer, classes':24} {'ms':>8} {'to one forward and one backward pass':>38} {'to one class':>14}")
    for way in ways:
        name = way.partition(",")[0]
        single = seconds.get(f"{name}, 1", seconds[way])
        shares = f"{ratio(seconds[way], seconds['passes']):38.2f} {ratio(seconds[way], single):14.2f}"
        print(f"{way:24} {1000 * statistics.median(seconds[way]):8.1f} {shares}", flush=True)


if __name__ == "__main__":
    main()
