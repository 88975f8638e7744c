"""Training with several processes: the same command gives the same losses and weights as one process.

Neither batch normalisation nor random draws of a method (HaS, CutMix, ADL, dropout) can be equal, as they depend on
which images are together, or on the process; everything else is.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.engine.ddp_worker import free_port, run_commands, together
from wsol.cli import main

WORLD = 2
BATCH = 12
"""Images of a step, over all processes."""
GATED = ["backbone=deit_s_gated", "backbone.width=24", "backbone.depth=3", "backbone.heads=2", "optim=adamw"]
METHODS = {
    "cam": ["method=cam"],
    "acol": ["method=acol", "method.head.width=8"],
    "clipped": ["method=gmp", "trainer.gradient_clip_val=0.01", "trainer.accumulate_grad_batches=2"],
    "calm": ["method=calm"],
    "bas": ["method=bas", "method.head.width=8"],
    # Whose cells are drawn, and whose background is a mean over cells: without both, centres are all that is shared.
    "dawsol": ["method=dawsol", "method.head.mmd_weight=0", "method.head.universum_weight=0"],
    "sat": ["method=sat", *GATED],
    # Crops leave out the box of some images, and not of equally many in each process.
    "psol": ["method=psol", "method.head.width=8", "transform=resized_crop", "pseudo={pseudo}"],
}
"""Without draws of their own, so that training can be equal."""
SEVERAL = ["trainer=ddp", f"trainer.devices={WORLD}"]
ONCE = ["trust=true", "batch_size=1", "num_workers=0", "trainer.accelerator=cpu"]
"""Of evaluations: a convolution may round otherwise in batches of other sizes."""
DRAWING = {
    "cutmix": ["method=cutmix", "logger=wandb", "logger.offline=true"],
    "has": ["method=has"],
    "adl": ["method=adl"],
    "earlier point": ["method.head.point=conv2"],
    "hrnet": ["backbone=timm", "backbone.name=hrnet_w18_small"],
    "spg": ["method=spg", "method.head.b_width=8", "method.head.c_width=8"],
    "dawsol, all terms": ["method=dawsol", "method.head.samples=2"],
    "c2am": ["method=c2am"],
}
"""With draws of each process, batch normalisation, or parameters that no score depends on; they must train."""


def words(name: str, folder: Path, data_dir: Path, world: int, *more: str) -> list[str]:
    """The command line of a training run."""
    small = ["data.train_images=36", "data.val_images=5", "data.test_images=3", "data.size=32", "image_size=32"]
    fixed = ["loader.num_workers=0", "trainer.accelerator=cpu", "trainer.precision=32-true", "loader.eval_batch_size=1"]
    of_world = [f"loader.batch_size={BATCH}", f"run_dir={folder / f'{name}-{world}'}"]
    several = ["trainer=ddp", f"trainer.devices={world}"] if world > 1 else []
    return ["train", f"data_dir={data_dir}", *small, *fixed, *of_world, *several, *more]


def commands(folder: Path, data_dir: Path, world: int) -> list[list[str]]:
    """All runs of a world."""
    always = ["--config-dir", str(folder / "mine"), "trainer.max_epochs=3"]
    chosen = {name: method if method[-5:] == GATED else ["backbone=plain", *method] for name, method in METHODS.items()}
    filled = {name: [word.format(pseudo=folder / "pseudo") for word in method] for name, method in chosen.items()}
    equal = [words(name, folder, data_dir, world, *always, *method) for name, method in filled.items()]
    drawing = [
        words(name, folder, data_dir, world, *method, "trainer.max_epochs=1") for name, method in DRAWING.items()
    ]
    boxes = ["eval", f"run={folder / f'psol-{world}'}", f"out={folder / f'boxes-{world}'}", *ONCE, *SEVERAL]
    return equal + ([*drawing, boxes] if world > 1 else [])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """Runs by one process, and by two."""
    made = tmp_path_factory.mktemp("ddp")
    (made / "mine" / "backbone").mkdir(parents=True)
    (made / "mine" / "backbone" / "plain.yaml").write_text("# Plain.\n_target_: tests.engine.ddp_worker.Plain\n")
    alone = commands(made, data_dir, 1)
    assert main(alone[0]) == 0  # whose boxes psol learns from
    pseudo = [f"run={made / 'cam-1'}", "split=train", "pseudo=boxes", "protocol=[cam2016]", f"out={made / 'pseudo'}"]
    assert main(["eval", *pseudo, *ONCE]) == 0
    wait = together(WORLD, made, run_commands, WORLD, free_port(), commands(made, made / "data", WORLD))
    for command in alone[1:]:
        assert main(command) == 0
    wait()
    assert main(["eval", f"run={made / f'psol-{WORLD}'}", f"out={made / 'boxes-1'}", *ONCE]) == 0
    return made


def curves(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("name", METHODS)
def test_losses_are_those_of_one_process(folder: Path, name: str) -> None:
    alone, shared = (curves(folder / f"{name}-{world}") for world in (1, WORLD))
    assert len(alone) == len(shared) >= 3
    for row, same in zip(alone, shared, strict=True):
        assert row.keys() == same.keys()
        for key in (key for key in row if key.startswith(("train/", "epoch", "step"))):
            assert (row[key] == same[key] == "") or float(row[key]) == pytest.approx(float(same[key]), abs=1e-5), key
    losses = [float(row["train/loss"]) for row in alone if row["train/loss"]]
    assert len(losses) == 3
    assert max(losses) - min(losses) > 1e-3, "nothing was learnt, so nothing is compared"


@pytest.mark.parametrize("name", METHODS)
def test_weights_are_those_of_one_process(folder: Path, name: str) -> None:
    alone, shared = (
        torch.load(folder / f"{name}-{world}" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for world in (1, WORLD)
    )
    assert alone.keys() == shared.keys()
    for key, value in alone.items():
        assert torch.allclose(value, shared[key], atol=1e-5), key


def test_given_boxes_and_their_results_are_those_of_one_process(folder: Path) -> None:
    alone, shared = (json.loads((folder / f"boxes-{world}" / "results.json").read_text()) for world in (1, WORLD))
    for part in ("localization", "classification", "error_kinds"):
        assert shared[part] == alone[part], part
    assert {row["threshold_origin"] for row in alone["localization"] if row["maps"] == "localizer"} == {"none"}
    for file in ("per_image.csv", "pictures.png"):
        assert (folder / "boxes-1" / file).read_bytes() == (folder / f"boxes-{WORLD}" / file).read_bytes(), file
    kept, same = (np.load(folder / f"boxes-{world}" / "image_results.npz") for world in (1, WORLD))
    assert "test/boxes" in kept.files
    for name in kept.files:
        np.testing.assert_array_equal(kept[name], same[name], name)


def test_some_pseudo_boxes_lie_outside_their_crop(folder: Path) -> None:
    outside = [float(row["train/outside_crop"]) for row in curves(folder / "psol-1") if row["train/outside_crop"]]
    assert max(outside) > 0, "or nothing shows that processes share the number of boxes"


def test_buffers_that_training_moves_know_the_images_of_all_processes(folder: Path) -> None:
    def head(name: str) -> dict[str, torch.Tensor]:
        file = folder / f"{name}-{WORLD}" / "checkpoints" / "last.ckpt"
        state = torch.load(file, weights_only=True)["state_dict"]
        return {key.removeprefix("localizer.head."): value for key, value in state.items()}

    assert head("dawsol")["universum_count"] == 3 * 36
    assert head("dawsol, all terms")["universum_count"] == 36
    assert head("c2am")["border"].abs() > 0


def test_a_batch_that_processes_cannot_share_is_refused_before_they_start(tmp_path, data_dir, capsys) -> None:
    several = ["trainer=ddp", "trainer.devices=5", f"run_dir={tmp_path / 'run'}"]
    assert main([*words("odd", tmp_path, data_dir, 1), *several]) != 0
    assert "loader.batch_size=12 cannot be shared evenly by 5 processes" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", DRAWING)
def test_methods_that_draw_train_with_several_processes(folder: Path, name: str) -> None:
    (row,) = (row for row in curves(folder / f"{name}-{WORLD}") if row["train/loss"])
    assert float(row["train/loss"]) > 0
    assert (folder / f"{name}-{WORLD}" / "results.json").exists()


def test_several_processes_are_one_run_of_wandb(folder: Path) -> None:
    (run,) = (path for path in (folder / f"cutmix-{WORLD}").rglob("offline-run-*") if path.is_dir())
    assert run.name.endswith(f"-{(folder / f'cutmix-{WORLD}' / 'wandb_id.txt').read_text()}")
    assert list(run.glob("*.wandb"))
