"""What reading a vision transformer's attention, keys and affinity costs beside a forward pass without it.

    python scripts/benchmarks/attention.py [--backbone deit_s] [--device cuda]

Forward passes in evaluation mode and float32, all ways in turns. Only the class token's row of the attention is
computed, so ``attention`` has to stay below 1.1; ``affinity`` needs the attention between all patches.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import torch
from measuring import alternate, machine, positive, ratio

from wsol.backbones.vit import ATTENTION
from wsol.config import build
from wsol.config.compose import compose


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="deit_s", help="a choice of configs/backbone that has attention")
    parser.add_argument("--batch-size", type=positive, default=8)
    parser.add_argument("--size", type=positive, default=224, help="side of the square images")
    parser.add_argument("--repeats", type=positive, default=7)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    config = compose("train", [f"backbone={options.backbone}"])
    network = build.instantiate(config.backbone, "backbone").to(options.device).eval()
    images = torch.randn(options.batch_size, 3, options.size, options.size, device=options.device)
    ways = {"last": partial(network, images)}
    ways |= {f"last, {point}": partial(network, images, taps=["last", point]) for point in ATTENTION}
    with torch.inference_mode():
        seconds = alternate(ways, options.repeats, options.device)
    print(machine(options.device))
    print(f"{options.backbone}, {options.batch_size} images of {options.size}, float32; medians of {options.repeats}")
    print(f"{'points':18} {'ms':>8} {'time, ratio':>12}")
    for way, times in seconds.items():
        print(f"{way:18} {1000 * statistics.median(times):8.1f} {ratio(times, seconds['last']):12.2f}", flush=True)


if __name__ == "__main__":
    main()
