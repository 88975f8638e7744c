"""Configs of one's own (YAML), tables, sweeps, and the words of the command line."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.robustness.base import SMALL
from scripts.robustness.runner import Place, Try, nothing

KIND, WORDS = "configs, tables, sweep files (YAML)", "words of the command line"
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
    yield from _words()


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


def _words() -> Iterator[Try]:
    small = f"{SMALL} data_dir={{data}} run_dir={{out}}/run"
    last: dict[str, tuple[str, tuple[str, ...]]] = {
        "backbone=tinny": ("backbone", ("tinny",)), "backbone=": ("backbone", ("backbone",)),
        "method=acoll": ("method", ("acoll",)), "data=../../etc": ("data", ("data",)),
        "nonsense=1": ("key", ("nonsense",)), "+nonsense=1": ("key", ("nonsense",)), "~data": ("key", ("data",)),
        "seed=x": ("seed", ("seed",)), "seed=-1": ("seed", ("seed",)), "seed=1e400": ("seed", ("seed",)),
        "seed=99999999999999999999": ("seed", ("seed",)), "trainer.max_epochs=0": ("epochs", ("max_epochs",)),
        "trainer.max_epochs=-1": ("epochs", ("max_epochs",)), "trainer.max_epochs=x": ("epochs", ("max_epochs",)),
        "trainer.accelerator=abacus": ("accelerator", ("accelerator",)),
        "trainer.precision=3": ("precision", ("precision",)), "optim.optimizer.lr=x": ("lr", ("lr",)),
        "optim.optimizer.lr=-1": ("lr", ("lr", "learning rate")), "optim.optimizer.lr=nan": ("lr", ("lr", "loss", "finite")),
        "optim.optimizer.lr=1e12": ("lr", ("lr", "loss", "finite")), "optim.optimizer.momentum=-1": ("momentum", ("momentum",)),
        "loader.batch_size=0": ("batch", ("batch_size",)), "loader.batch_size=-4": ("batch", ("batch_size",)),
        "loader.batch_size=x": ("batch", ("batch_size",)), "loader.num_workers=-1": ("workers", ("num_workers",)),
        "image_size=0": ("size", ("image_size", "size")), "image_size=-32": ("size", ("image_size", "size")),
        "image_size=1000000000": ("size", ("size", "memory")), "topk=[0]": ("topk", ("topk",)), "topk=[99]": ("topk", ("top",)),
        "topk=x": ("topk", ("topk",)), "monitor=nobody": ("monitor", ("nobody",)),
        "monitor=test/top1_error": ("monitor", ("monitor",)), "memory_format=x": ("format", ("memory_format",)),
        "data.train_images=0": ("images", ("train_images",)), "data.train_images=-5": ("images", ("train_images",)),
        "data.size=0": ("size", ("size",)), "data.num_classes=0": ("classes", ("num_classes",)),
        "protocol=[nobody]": ("protocol", ("nobody",)), "protocol=[]": ("protocol", ("protocol",)),
        "experiment=nobody": ("experiment", ("nobody",)), "resume=/nobody": ("resume", ("nobody",)),
        "label_smoothing=2": ("smoothing", ("label_smoothing",)), "=1": ("word", ("key=value", "override")), "word": ("word", ("word",)),
        "--nobody": ("option", ("--nobody",)), "a=[": ("word", ("key",)), "seed=${nobody}": ("seed", ("nobody",)),
        "seed=${oc.env:NOBODY}": ("seed", ("NOBODY",)), "hydra.run.dir=/tmp": ("hydra", ("hydra",)),
        "name=../../../../tmp/CANARY-wsol": ("name", ("name",)), "schedule=nobody": ("schedule", ("nobody",)),
    }  # fmt: skip
    for word, (_, names) in last.items():
        right = (
            "either"
            if word
            in (
                "+nonsense=1",
                "protocol=[]",
                "name=../../../../tmp/CANARY-wsol",
                "~data",
                "image_size=1000000000",
                "topk=[99]",
            )
            else "refused"
        )
        yield Try(WORDS, f"train {word}", nothing, f"train {small} {word}", right, names)
    whole = {
        "tarin": ("tarin",), "": ("usage",), "data": ("data verify",), "data verfy": ("data",), "eval": ("run",),
        "eval run=/nobody": ("nobody",), "predict": ("images",), "predict run={run}": ("images",),
        "predict run={run} images=/nobody": ("nobody",), "predict run={run} images={image} top=0 out={out}/p": ("top",),
        "predict run={run} images={image} threshold=2 out={out}/p": ("threshold",),
        "predict run={run} images={image} classes=[nobody] out={out}/p": ("nobody",),
        "predict run={run} images={image} device=abacus out={out}/p": ("device", "abacus"),
        "predict run={run} images={image} maps=bmp out={out}/p": ("maps",),
        "predict run={run} images={image} batch_size=0 out={out}/p": ("batch_size",),
        "predict run={run} images={image} image_size=-1 out={out}/p": ("size",), "score": ("maps",),
        "score maps=/nobody": ("nobody",), "score maps={evaluation}/maps split=nobody out={out}/s": ("nobody",),
        "score maps={evaluation}/maps view=nobody out={out}/s": ("nobody",),
        "score maps={evaluation}/maps missing=nobody out={out}/s": ("missing",), "report": ("run",), "report /nobody": ("nobody",),
        "report {run} split=nobody out={out}/r": ("split",), "report {run} limit=0 out={out}/r": ("limit",),
        "report {run} picture_side=5 out={out}/r": ("picture_side",), "export run={run} format=nobody out={out}/x": ("format",),
        "convert": ("weights",), "convert weights=/nobody": ("nobody",), "table nobody": ("nobody",),
        "table demo format=nobody": ("nobody",), "table": ("table",), "sweep sweep=nobody": ("nobody",),
        "data verify": ("data",), "data verify data=cub data.root=/nobody": ("nobody",), "data prepare data=nobody": ("nobody",),
        "data prepare data=cub": ("archive",), "data prepare data=cub archive=/nobody.tgz": ("nobody.tgz",),
        "backbone check nobody.Nobody": ("nobody",), "ilsvrc-kit": ("predictions",), "features units": ("run",), "features concept": ("positives", "run"),
        "features svm run=/nobody": ("nobody",), "train --config-dir /nobody": ("nobody",), "train -m seed=a,b": ("seed",),
    }  # fmt: skip
    for words, names in whole.items():
        right = "accepted" if words in ("", "data verify") else "refused"  # the embedded dataset is verified
        yield Try(WORDS, f"wsol {words}", nothing, words or "--help", right, names)
