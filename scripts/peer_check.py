"""MaxBoxAcc and MaxBoxAccV2 of the same saved maps: the evaluator of clovaai/wsolevaluation against `wsol score`.

    python scripts/peer_check.py --peer <checkout of wsolevaluation> --metadata <folder with CUB/test, ILSVRC/test>

Choe et al. 2020 (https://arxiv.org/abs/2001.07437) released the evaluator; it is run as it stands in the checkout, at
its 1,000 thresholds, on made-up maps of the first images of a test list. Images are not needed. The exit code is 1 if
the two disagree.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from wsol.cli import main as wsol_main

SIDE = 224
LISTS = ("image_ids.txt", "class_labels.txt", "image_sizes.txt", "localization.txt")
METRICS = {"MaxBoxAcc": "choe2020", "MaxBoxAccV2": "choe2020-v2"}
"""Our protocol of each of theirs."""

TOLERANCE = 1e-9
"""Percent."""


def shorten(metadata: Path, images: int, out: Path) -> list[str]:
    """Copy the lists of a test split, cut to its first images, to ``out``; returns the images' names."""
    names = (metadata / "image_ids.txt").read_text(encoding="utf-8").split("\n")[:images]
    kept = {name for name in names if name}
    out.mkdir(parents=True)
    for file in LISTS:
        lines = (metadata / file).read_text(encoding="utf-8").splitlines()
        some = [line for line in lines if line.partition(",")[0] in kept]
        (out / file).write_text("".join(f"{line}\n" for line in some), encoding="utf-8")
    return list(filter(None, names))


def first_boxes(metadata: Path) -> dict[str, np.ndarray]:
    """The first true box of each image, in parts of its width and height: float64 (4,)."""
    rows = [
        [line.split(",") for line in (metadata / file).read_text(encoding="utf-8").splitlines()]
        for file in ("image_sizes.txt", "localization.txt")
    ]
    sizes = {name: np.array([width, height] * 2, dtype=float) for name, width, height in rows[0]}
    return {name: np.array(box, dtype=float) / sizes[name] for name, *box in reversed(rows[1])}


def smooth_map(box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A hill about as large as the true box and near its centre, and one to four more elsewhere."""
    centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    y, x = (np.indices((SIDE, SIDE)) + 0.5) / SIDE
    out = np.zeros((SIDE, SIDE))
    for hill in range(rng.integers(2, 6)):
        (u, v), reach = (centre + size * rng.normal(0, 0.2, 2), size) if hill == 0 else (rng.random(2), rng.random(2))
        a, b = np.maximum(reach * rng.uniform(0.2, 0.6, 2), 0.02)
        height = 1.0 if hill == 0 else rng.random()
        out += height * np.exp(-(((x - u) / a) ** 2 + ((y - v) / b) ** 2) / 2)
    return out


def noise_map(box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of 28 x 28 cells: dozens of blobs and holes at most thresholds."""
    return cv2.resize(rng.random((28, 28)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


MAPS = {"smooth": smooth_map, "noise": noise_map}


def write_maps(kind: str, names: list[str], boxes: dict[str, np.ndarray], out: Path, seed: int) -> None:
    """Save maps as the peer does: float64 (224, 224) from 0 to 1; every 25th is flat."""
    for i, name in enumerate(names):
        score_map = MAPS[kind](boxes[name], np.random.default_rng([seed, i]))
        score_map = (score_map - score_map.min()) / (score_map.max() - score_map.min())
        file = out / f"{name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, score_map * (i % 25 != 24))


@contextlib.contextmanager
def peer_evaluation(checkout: Path) -> Iterator[types.ModuleType]:
    """The peer's module ``evaluation``, with names that NumPy has dropped since, and a stand-in if munch is absent.

    The checkout has a package ``wsol``, too: have ours imported by then.
    """

    class Munch(dict):
        __getattr__, __setattr__ = dict.__getitem__, dict.__setitem__

    for name, kind in {"float": float, "int": int}.items():
        if not hasattr(np, name):
            setattr(np, name, kind)
    try:
        importlib.import_module("munch")
    except ModuleNotFoundError:
        sys.modules["munch"] = types.ModuleType("munch")
        sys.modules["munch"].Munch = Munch  # type: ignore[attr-defined]
    sys.path.insert(0, str(checkout))
    try:
        yield importlib.import_module("evaluation")
    finally:
        sys.path.remove(str(checkout))


def peer_scores(checkout: Path, maps: Path, metadata_root: Path, dataset: str) -> tuple[dict[str, float], float]:
    """Percent by metric, and the seconds."""
    scores = {}
    with peer_evaluation(checkout) as evaluation, contextlib.redirect_stdout(io.StringIO()):
        warnings.filterwarnings("ignore", "'pin_memory' argument")
        start = time.perf_counter()
        for metric, v2 in (("MaxBoxAcc", False), ("MaxBoxAccV2", True)):
            scores[metric] = evaluation.evaluate_wsol(
                scoremap_root=str(maps),
                metadata_root=str(metadata_root),
                mask_root="",
                dataset_name=dataset,
                split="test",
                multi_contour_eval=v2,
                multi_iou_eval=v2,
                iou_threshold_list=[30, 50, 70],
                cam_curve_interval=0.001,
            )
        return scores, time.perf_counter() - start


def our_scores(maps: Path, metadata_root: Path, dataset: str, out: Path) -> tuple[dict[str, float], float]:
    """Percent by metric, and the seconds of `wsol score`, lists and maps read, results written."""
    words = [
        "score",
        f"maps={maps}",
        f"data={dataset.lower()}_lists",
        f"data.metadata_root={metadata_root / dataset}",
        "data.image_root=null",
        f"protocol=[{','.join(METRICS.values())}]",
        "baselines=false",
        "per_image=false",
        f"out={out}",
    ]
    importlib.import_module("wsol.engine.map_scoring")  # takes seconds of its own
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        code = wsol_main(words)
    seconds = time.perf_counter() - start
    if code:
        raise SystemExit(code)
    rows = json.loads((out / "results.json").read_text(encoding="utf-8"))["localization"]
    errors = {row["protocol"]: row["gt_known_error"] for row in rows if row["threshold_origin"] == "oracle"}
    return {metric: 100.0 - errors[name] for metric, name in METRICS.items()}, seconds


def main() -> int:
    """Compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="checkout of clovaai/wsolevaluation")
    parser.add_argument("--metadata", type=Path, required=True, help="folder of its lists, with CUB and ILSVRC in it")
    parser.add_argument("--dataset", choices=("CUB", "ILSVRC"), default="CUB")
    parser.add_argument("--images", type=int, default=200, help="the first of the test list")
    parser.add_argument("--maps", choices=tuple(MAPS), default="smooth")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not (args.peer / "evaluation.py").is_file():
        parser.error(f"--peer {args.peer}: no evaluation.py there; expected a checkout of clovaai/wsolevaluation")
    if args.images < 1:
        parser.error(f"--images {args.images}: expected at least 1")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lists, maps = folder / "metadata", folder / "maps"
        names = shorten(args.metadata / args.dataset / "test", args.images, lists / args.dataset / "test")
        write_maps(args.maps, names, first_boxes(lists / args.dataset / "test"), maps, args.seed)
        ours, our_seconds = our_scores(maps, lists, args.dataset, folder / "out")
        theirs, their_seconds = peer_scores(args.peer, maps, lists, args.dataset)
    print(f"{len(names)} {args.maps} maps, {args.dataset}")
    for metric, value in theirs.items():
        print(f"{metric:12} peer {value:9.4f}  wsol {ours[metric]:9.4f}  difference {ours[metric] - value:+.2e}")
    print(f"seconds      peer {their_seconds:9.2f}  wsol {our_seconds:9.2f}")
    return int(any(abs(ours[metric] - value) > TOLERANCE for metric, value in theirs.items()))


if __name__ == "__main__":
    sys.exit(main())
