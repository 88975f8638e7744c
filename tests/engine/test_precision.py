"""What is reported is computed in float32 without TF32, whichever precision trains."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.conftest import SMALL_RUN
from wsol.backbones.tiny import Tiny
from wsol.cli import main
from wsol.engine.module import LocalizerModule
from wsol.errors import InputError
from wsol.explain.gradcam import GradCAM
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer

Seen = tuple[torch.dtype, bool, bool]
FLOAT32 = (torch.float32, False, False)


def make(**options) -> LocalizerModule:
    torch.manual_seed(0)
    return LocalizerModule(Localizer(Tiny(), partial(GapHead), num_classes=3), **options)


def flags() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@contextmanager
def watched() -> Iterator[dict[bool, set[Seen]]]:
    """The types that convolutions gave and the TF32 flags they had, by whether the network trained."""
    seen: dict[bool, set[Seen]] = {True: set(), False: set()}

    def look(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        if isinstance(module, torch.nn.Conv2d):
            seen[module.training].add((output.dtype, *flags()))

    handle = torch.nn.modules.module.register_module_forward_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


@pytest.fixture(autouse=True)
def allowed() -> Iterator[None]:
    """TF32 as a program may have allowed it."""
    before = flags()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
@pytest.mark.parametrize("explainer", [None, GradCAM()])
def test_scores_and_maps_leave_the_autocast_around_them(precision, dtype, explainer) -> None:
    module = make(eval_precision=precision, explainer=explainer).eval()
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with watched() as seen, torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        scores, maps = module.maps(pixels, torch.tensor([[0], [1]]))
        assert torch.is_autocast_enabled("cpu")
    assert scores.dtype == maps.dtype == torch.float32
    assert seen == {True: set(), False: {(dtype, False, False)} | ({FLOAT32} if explainer else set())}
    assert flags() == (True, True)


def test_numbers_are_those_without_any_autocast() -> None:
    module, pixels = make().eval(), torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        plain = module.localizer(module.normalise(pixels)).logits
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(module.scores(pixels)[2], plain)


def test_flags_come_back_after_an_error() -> None:
    module = make()
    with pytest.raises(RuntimeError):
        module.scores(torch.zeros(2, 5, 32, 32, dtype=torch.uint8)[:, :4])
    with pytest.raises(IndexError), watched():
        module.maps(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), lambda logits: [][0])
    assert flags() == (True, True)


def test_a_run_trains_in_its_precision_and_is_evaluated_in_float32(tmp_path: Path, data_dir: Path) -> None:
    small = [*SMALL_RUN, f"data_dir={data_dir}", "trainer.max_epochs=1", "trainer.precision=bf16-mixed"]
    with watched() as seen:
        assert main(["train", *small, f"run_dir={tmp_path / 'run'}"]) == 0
    assert seen == {True: {(torch.bfloat16, True, True)}, False: {FLOAT32}}
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["precision"], results["eval_precision"]) == ("bf16-mixed", "32-true")
    assert results["allow_tf32"] is False
    for words, found in (([], {FLOAT32}), (["eval_precision=bf16-mixed"], {(torch.bfloat16, False, False)})):
        with watched() as seen:
            assert main(["eval", f"run={tmp_path / 'run'}", "trainer.accelerator=cpu", *words]) == 0
        assert seen == {True: set(), False: found}


def test_eval_takes_eval_precision(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["eval", f"run={tmp_path}", "trainer.precision=bf16-mixed"]) != 0
    assert "set eval_precision=bf16-mixed" in capsys.readouterr().err
    with pytest.raises(InputError, match="eval_precision"):
        make(eval_precision="half")


def test_half_weights_are_refused(tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture) -> None:
    words = [*SMALL_RUN, f"data_dir={data_dir}", f"run_dir={tmp_path / 'run'}", "trainer.precision=bf16-true"]
    assert main(["train", *words]) != 0
    assert "bf16-true" in capsys.readouterr().err
