"""What works without the packages of the extras, and how a missing one is told."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.pages import ROOT
from wsol import extras
from wsol.config.construct import locate

CORE = """
import sys
sys.modules.update(dict.fromkeys({blocked}))  # importing them fails, and find_spec finds nothing
from wsol.cli import main
import wsol, wsol.metrics, wsol.explain, wsol.functional.iou, wsol.heads, wsol.backbones
small = {small}
assert main(["train", *small, "run_dir=run"]) == 0
assert main(["eval", "run=run", "out=evaluated", "num_workers=0", "explainer=gradcam", "trainer.accelerator=cpu"]) == 0
for words in (["train", *small, "logger=wandb", "run_dir=other"], ["sweep", *small, "sweep.folder=search"]):
    assert main(words) == 2
"""


def test_training_and_evaluation_need_no_extra_and_what_does_says_which(data_dir: Path, tmp_path: Path) -> None:
    from tests.conftest import SMALL_RUN

    small = [*SMALL_RUN, "trainer.max_epochs=1", f"data_dir={data_dir}"]
    program = CORE.format(blocked=sorted(set(extras.EXTRAS)), small=small)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert 'needs wandb: pip install "wsol[train]"' in done.stderr
    assert 'a search needs optuna: pip install "wsol[sweep]"' in done.stderr


def test_extras_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    offered = project["optional-dependencies"]
    renamed = {"sklearn": "scikit-learn", "submitit": "hydra-submitit-launcher"}
    for module, extra in extras.EXTRAS.items():
        assert any(line.startswith(renamed.get(module, module)) for line in offered[extra]), (module, extra)
        assert not any(line.startswith(renamed.get(module, module)) for line in project["dependencies"]), module


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_is_installed", lambda name: False)
    with pytest.raises(extras.MissingExtra, match=r'^a linear SVM needs sklearn: pip install "wsol\[features\]"$'):
        extras.need("sklearn", what="a linear SVM")
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "wsol.loggers.wandb", raising=False)
    with pytest.raises(extras.MissingExtra, match=r"^wsol.loggers.wandb.logger needs wandb"):
        locate("wsol.loggers.wandb.logger", "logger")
