"""The wheel carries the configs and trains from an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.conftest import SMALL_RUN

ROOT = Path(__file__).parent.parent


def test_a_wheel_trains_from_an_empty_folder(tmp_path: Path, data_dir: Path) -> None:
    source, made, site, empty = (tmp_path / name for name in ("source", "made", "site", "empty"))
    source.mkdir()
    for name in ("wsol", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(made), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    with zipfile.ZipFile(next(made.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        wheel.extractall(site)
    for file in (ROOT / "wsol").rglob("*.nbc"):  # machine code of the same sources, which would be compiled again
        (kept := site / file.relative_to(ROOT)).parent.mkdir(exist_ok=True)
        shutil.copy(file, kept)
    shipped = {name.removeprefix("wsol/configs/") for name in names if name.startswith("wsol/configs/")}
    assert shipped >= {path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.yaml")}
    assert {f"wsol/{path.relative_to(ROOT / 'wsol').as_posix()}" for path in (ROOT / "wsol").rglob("*.py")} <= set(
        names
    )

    empty.mkdir()
    code = "import sys, wsol; from wsol.cli import main; print(wsol.__file__); sys.exit(main(sys.argv[1:]))"
    words = ["train", "experiment=demo", *SMALL_RUN, f"data_dir={data_dir}", "trainer.max_epochs=1", "run_dir=out"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=empty, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(str(site))
    results = json.loads((empty / "out" / "results.json").read_text())
    assert results["git"] is None
