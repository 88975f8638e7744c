"""TokenCut's eigenvectors, batched, beside the released way: `scipy.linalg.eigh(D - A, D)` image by image.

    python scripts/benchmarks/tokencut.py [--cells 14 20 30] [--batch-size 16]

Both get the same weights A, float64, made of keys that vary smoothly over an image, and compute the same vector: the
largest difference is printed, too. The released way asks for the second and third eigenvector only. Both in turns.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from measuring import alternate, machine, positive, ratio
from scipy.linalg import eigh
from torch import Tensor

from wsol.functional.normalized_cut import second_eigenvector


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=positive, nargs="+", default=[14, 20, 30], help="sides of the grids of patches")
    parser.add_argument("--batch-size", type=positive, default=16)
    parser.add_argument("--repeats", type=positive, default=7)
    options = parser.parse_args()
    print(machine("cpu"))
    print(f"{options.batch_size} images; medians of {options.repeats}, ms an image")
    print(f"{'patches':>8} {'released':>9} {'batched':>8} {'released / batched':>19} {'greatest difference':>20}")
    for cells in options.cells:
        weights = some_weights(options.batch_size, cells)
        ways = {
            "released": lambda weights=weights: [released(one) for one in weights.numpy()],
            "batched": partial(second_eigenvector, weights),
        }
        seconds = alternate(ways, options.repeats, "cpu")
        slow, fast = (1000 * statistics.median(seconds[way]) / len(weights) for way in ways)
        difference = max(map(distance, ways["released"](), ways["batched"]().numpy()))
        gain = 1 / ratio(seconds["batched"], seconds["released"])
        print(f"{cells:>5}^2 {slow:9.2f} {fast:8.2f} {gain:19.1f} {difference:20.1e}", flush=True)


def some_weights(count: int, cells: int) -> Tensor:
    """Weights float64 (N, P, P) as TokenCut makes them of keys, P = cells^2."""
    generator = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.randn(count, 64, 4, 4, generator=generator), (cells, cells), mode="bicubic")
    keys = smooth + 0.3 * torch.randn(smooth.shape, generator=generator)
    units = F.normalize(keys.flatten(2).transpose(1, 2), dim=2)
    return (units @ units.transpose(1, 2) > 0.2).double() * (1 - 1e-5) + 1e-5


def released(weights: np.ndarray) -> np.ndarray:
    """The vector of one image, float64 (P,)."""
    degree = np.diag(weights.sum(1))
    vectors: np.ndarray = eigh(degree - weights, degree, subset_by_index=[1, 2])[1]
    return vectors[:, 0]


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference between two vectors whose sign is free."""
    return float(min(np.abs(one - other).max(), np.abs(one + other).max()))


if __name__ == "__main__":
    main()
