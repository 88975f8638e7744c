"""Configs of one's own (YAML), tables and sweeps, and the words of the command line."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.robustness import words
from scripts.robustness.base import SMALL
from scripts.robustness.runner import Place, Try

KIND = "configs, tables, sweep files (YAML)"
CFG = "train --config-dir {inputs} backbone=mine --cfg"
RUN = "train --config-dir {inputs} backbone=mine data_dir={data} run_dir={out}/run " + " ".join(
    word for word in SMALL.split() if not word.startswith("backbone")
)
TABLE = "table mine --config-dir {inputs} runs_dir={out}"
SWEEP = f"sweep --config-dir {{inputs}} sweep=mine {SMALL} data_dir={{data}} sweep.folder={{out}}/study"

GOOD = "_target_: wsol.backbones.tiny.Tiny\nwidths: [8, 8, 8, 8]\noutput_stride: 4\nweights: null\n" + (
    "preprocessing: {mean: null, std: null, size: null, interpolation: null}\n"
)
GOOD_TABLE = """title: a
source: b
columns: {c: {metric: gt_known_error, protocol: cam2016, threshold: fixed}}
rows: [{label: d, experiment: demo}]
"""
GOOD_SWEEP = "trials: 1\nsampler: random\nspace:\n  optim.optimizer.lr: {log: [0.001, 0.1]}\n"

BOMB = "a0: &a0 [x]\n" + "".join(f"a{k + 1}: &a{k + 1} [{', '.join([f'*a{k}'] * 9)}]\n" for k in range(9))

BROKEN: dict[str, bytes] = {
    "cut": b"_target_: {",
    "tabs": b"a:\n\t- b\n",
    "a NUL": b"a: \0\n",
    "a scalar": b"hello\n",
    "a list": b"- 1\n- 2\n",
    "Latin-1": "name: caf\xe9\n".encode("latin-1"),
    "UTF-16": "a: 1\n".encode("utf-16"),
    "bytes": bytes(range(256)),
    "a duplicate key": b"a: 1\na: 2\n",
    "a Python tag": b"a: !!python/object/apply:os.system ['touch CANARY']\n",
    "a Python name": b"a: !!python/name:os.system\n",
    "an unknown tag": b"a: !thing 1\n",
    "an alias bomb": BOMB.encode(),
    "an unknown alias": b"a: *nobody\n",
    "20,000 brackets": b"a: " + b"[" * 20_000,
    "two documents": b"a: 1\n---\nb: 2\n",
}


def tries() -> Iterator[Try]:
    """All of them."""
    yield from _configs()
    yield from _tables()
    yield from _sweeps()
    yield from words.tries()


def _own(
    kind: str, what: str, group: str, raw: bytes, act: str, right: str = "refused", names: tuple[str, ...] = ()
) -> Try:
    def make(place: Place) -> None:
        (place.inputs / group).mkdir()
        text = raw.replace(b"CANARY", str(place.canary).encode())
        (place.inputs / group / "mine.yaml").write_bytes(text)

    return Try(kind, f"{group}: {what}", make, act, right, ("mine", *names))


def _configs() -> Iterator[Try]:
    yield _own(KIND, "nothing wrong", "backbone", GOOD.encode(), RUN, "accepted")
    for what, raw in BROKEN.items():
        yield _own(KIND, what, "backbone", raw, CFG)
    yield _own(KIND, "empty", "backbone", b"", RUN, "refused", ("backbone",))
    more: dict[str, tuple[str, str]] = {
        "defaults of itself": ("defaults: [mine]\n", "defaults"),
        "defaults a number": ("defaults: 5\n", "defaults"),
        "defaults a text": ("defaults: x\n", "defaults"),
        "defaults of nobody": ("defaults: [nobody]\n", "nobody"),
        "defaults of another group's nobody": ("defaults: [/data: nobody]\n", "nobody"),
        "an interpolation that leads nowhere": (f"{GOOD}x: ${{no.key}}\n", "no.key"),
        "an interpolation of itself": (GOOD.replace("[8, 8, 8, 8]", "${backbone.widths}"), "widths"),
        "half an interpolation": (GOOD.replace("[8, 8, 8, 8]", "'${a'"), "widths"),
        "an unknown resolver": (GOOD.replace("[8, 8, 8, 8]", "${nobody:1}"), "nobody"),
        "widths of text": (GOOD.replace("[8, 8, 8, 8]", "hello"), "widths"),
        "widths negative": (GOOD.replace("[8, 8, 8, 8]", "[-1, 8, 8, 8]"), "widths"),
        "an unknown target": (GOOD.replace("tiny.Tiny", "tiny.Nobody"), "Nobody"),
        "a target of no package": (GOOD.replace("wsol.backbones.tiny", "nobody"), "nobody"),
        "a target that is no backbone": (
            GOOD.replace("wsol.backbones.tiny.Tiny", "wsol.heads.gap.GapHead"),
            "backbone",
        ),
        "a target that is a number": (GOOD.replace("wsol.backbones.tiny.Tiny", "5"), "_target_"),
        "an unknown key": (f"{GOOD}nonsense: 1\n", "nonsense"),
        "no target": (GOOD.partition("\n")[2], "_target_"),
        "weights of nobody": (GOOD.replace("weights: null", "weights: /nobody.pth"), "nobody.pth"),
    }
    for what, (text, name) in more.items():
        yield _own(KIND, what, "backbone", text.encode(), RUN, "refused", (name, "backbone"))


def _tables() -> Iterator[Try]:
    yield _own(KIND, "nothing wrong", "table", GOOD_TABLE.encode(), TABLE, "accepted")
    for what, raw in BROKEN.items():
        yield _own(KIND, what, "table", raw, TABLE)
    for key in ("title", "source", "columns", "rows"):
        for what, value in {"null": "null", "a number": "5", "text": "x", "a list": "[1]", "missing": None}.items():
            lines = [line for line in GOOD_TABLE.splitlines() if not line.startswith(f"{key}:")]
            text = "\n".join(lines + ([f"{key}: {value}"] if value else [])) + "\n"
            right = "either" if key in ("title", "source") and what != "missing" else "refused"
            yield _own(KIND, f"{key} is {what}", "table", text.encode(), TABLE, right)
    more = {
        "an unknown key": GOOD_TABLE + "more: 1\n", "an unknown metric": GOOD_TABLE.replace("gt_known_error", "nobody"),
        "an unknown protocol": GOOD_TABLE.replace("cam2016", "nobody"), "seeds of text": GOOD_TABLE + "seeds: [a]\n",
        "seeds a number": GOOD_TABLE + "seeds: 5\n", "no seeds": GOOD_TABLE + "seeds: []\n",
        "an unknown experiment": GOOD_TABLE.replace("experiment: demo", "experiment: nobody"),
        "a row twice": GOOD_TABLE.replace("[{label: d", "[{label: d, experiment: demo}, {label: d"),
        "an unknown baseline": GOOD_TABLE + "baseline: nobody\n",
        "overrides that do not parse": GOOD_TABLE.replace("experiment: demo", "overrides: ['=[']"),
        "published by nobody": GOOD_TABLE.replace("experiment: demo", "experiment: demo, published: nobody/x"),
    }  # fmt: skip
    for what, text in more.items():
        yield _own(KIND, what, "table", text.encode(), TABLE)


def _sweeps() -> Iterator[Try]:
    for what, raw in BROKEN.items():
        yield _own(KIND, what, "sweep", raw, SWEEP)
    for key, value in {
        "trials": ("-1", "0", "x", "null", "1.5", "[1]"),
        "sampler": ("nobody", "5", "null"),
        "pruner": ("nobody",),
        "metric": ("nobody", "test/top1_error", "null"),
        "workers": ("0", "-1", "x"),
        "storage": ("nobody://x",),
        "space": ("null", "5", "{}", "{nobody.key: {log: [1, 2]}}"),
    }.items():
        for one in value:
            lines = [
                line
                for line in GOOD_SWEEP.splitlines()
                if not line.startswith((f"{key}:", "  " * (key == "space") or "~"))
            ]
            text = "\n".join([*lines, f"{key}: {one}"]) + "\n"
            yield _own(KIND, f"{key}: {one}", "sweep", text.encode(), SWEEP, "refused", (key, "nobody"))
    for space in ("{log: [1, .inf]}", "{log: [0, 1]}", "{log: [-1, 1]}", "{log: [2, 1]}", "{log: 5}", "{log: [a, b]}",
                  "{range: [.nan, 1]}", "{range: [1]}", "{choice: []}", "{choice: 5}", "{nobody: [1, 2]}", "{}", "5",
                  "{log: [1, 2], range: [1, 2]}", "{choice: [{a: 1}]}"):  # fmt: skip
        text = GOOD_SWEEP.replace("{log: [0.001, 0.1]}", space)
        yield _own(KIND, f"a space of {space}", "sweep", text.encode(), SWEEP, "refused", ("lr", "space"))
