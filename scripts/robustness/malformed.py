"""Try malformed inputs of every kind and count what comes of them.

    python scripts/robustness/malformed.py [--only KIND]... [--sample N] [--seed N] [--report FILE.json]
                                           [--docs docs/reliability.md]

The inputs are the same each time. Exit code 1 if one ran code, wrote outside its output, hung, ended in a stack trace,
or gave a wrong result in silence.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.dont_write_bytecode = True
os.environ.update(OMP_NUM_THREADS="1", WANDB_MODE="offline", MPLBACKEND="agg", COLUMNS="200")

from scripts.robustness import base, tables  # noqa: E402
from scripts.robustness.runner import BAD, Judged, Try, as_json, run_all  # noqa: E402


def every_try() -> list[Try]:
    """All tries, kind by kind."""
    import importlib

    names = ("checkpoints", "archives", "images", "annotations", "maps", "runs", "configs", "api")
    modules = [
        importlib.import_module(f"scripts.robustness.{n}")
        for n in names
        if (Path(__file__).parent / f"{n}.py").exists()
    ]
    return [one for module in modules for one in module.tries()]


def sample(tries: list[Try], number: int, seed: int) -> list[Try]:
    """So many of them, of every kind, each of another input."""
    draw = random.Random(seed)
    kinds: dict[str, list[Try]] = {}
    for one in tries:
        kinds.setdefault(one.kind, []).append(one)
    for of_kind in kinds.values():
        draw.shuffle(of_kind)
    order = [of_kind[i] for i in range(max(map(len, kinds.values()))) for of_kind in kinds.values() if i < len(of_kind)]
    return order[:number]


def main() -> int:
    """Run the tries and print the table."""
    arguments = parser().parse_args()
    started = time.monotonic()
    tries = every_try()
    if arguments.only:
        tries = [one for one in tries if any(word.lower() in one.label.lower() for word in arguments.only)]
    if arguments.sample:
        tries = sample(tries, arguments.sample, arguments.seed)
    else:
        random.Random(arguments.seed).shuffle(tries)
    if arguments.list:
        print("\n".join(sorted(one.label for one in tries)))
        print(f"{len(tries)} tries of {tables.distinct(tries)} inputs")
        return 0
    base.warm()
    logging.disable(logging.NOTSET)
    with tempfile.TemporaryDirectory(prefix="wsol-robustness-") as name:
        folder = Path(name).resolve()
        made = base.make(folder / "base")
        judged = run_all(tries, made, folder, jobs=arguments.jobs, seconds=arguments.timeout, tell=_tell(len(tries)))
    print(file=sys.stderr)
    table = tables.malformed(judged)
    print(table)
    _list_failures(judged, arguments.verbose)
    print(f"\n{len(judged)} tries in {time.monotonic() - started:.0f} s")
    if arguments.report:
        arguments.report.write_text(as_json(judged))
    if arguments.docs:
        tables.write_block(arguments.docs, "malformed", table)
    return 1 if any(one.verdict in BAD for one in judged) else 0


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--only", action="append", default=[], help="words in the label of a try: kind, input or verb")
    made.add_argument("--sample", type=int, help="only so many, of every kind")
    made.add_argument("--seed", type=int, default=0, help="of the order, and of the sample")
    made.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="tries at a time")
    made.add_argument("--timeout", type=float, default=30, help="seconds after which a try hangs")
    made.add_argument("--report", type=Path, help="JSON file of every try that is not in order")
    made.add_argument("--docs", type=Path, help="Markdown file whose block `malformed` becomes the table")
    made.add_argument("--list", action="store_true", help="print the tries and do nothing")
    made.add_argument("--verbose", action="store_true", help="print every failing try, not the first of each sort")
    return made


def _tell(total: int) -> object:
    def tell(done: int, judged: Judged) -> None:
        if sys.stderr.isatty() or done % 50 == 0 or done == total:
            print(f"\r{done} of {total} ", end="", file=sys.stderr, flush=True)

    return tell


def _list_failures(judged: list[Judged], verbose: bool) -> None:
    seen: Counter[tuple[str, str, str]] = Counter()
    for one in judged:
        if one.verdict not in (*BAD, "unclear"):
            continue
        key = (one.which.kind, one.verdict, one.why[:40])
        seen[key] += 1
        if verbose or seen[key] <= 2:
            print(f"{one.verdict}: {one.which.label!a}: {one.why!a}")


if __name__ == "__main__":
    sys.exit(main())
