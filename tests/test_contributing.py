"""The backbone that CONTRIBUTING shows is trained here as it stands there."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "CONTRIBUTING.md"


def test_the_backbone_of_the_page_trains(wsol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, config = re.findall(r"```(?:python|yaml)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "my_net.py").write_text(code)
    (tmp_path / "my_configs" / "backbone").mkdir(parents=True)
    own = config.replace("wsol.backbones.mine.Mine", "my_net.Mine")
    (tmp_path / "my_configs" / "backbone" / "mine.yaml").write_text(own)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["--config-dir", "my_configs", "backbone=mine", "trainer.max_epochs=1", "run_dir=out"]
    assert wsol("train", *words) == 0
    assert json.loads(Path("out/results.json").read_text())["choices"]["backbone"] == "mine"
    sys.modules.pop("my_net")
