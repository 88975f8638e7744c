"""The module in validation and test, and its checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from tests.conftest import SMALL_RUN
from tests.engine.modules import CAM, SGD, SIDE, data, fit, images, localizer, make
from wsol.config.compose import compose
from wsol.data.datasets.creatures import Creatures
from wsol.data.transforms import ResizeSquare, TenCrop
from wsol.engine.evaluation import SplitEvaluation
from wsol.engine.module import LocalizerModule
from wsol.errors import InputError
from wsol.runs import checkpoints
from wsol.types import Batch


@pytest.mark.parametrize("transform", [ResizeSquare(SIDE), TenCrop(24, SIDE)], ids=["whole", "ten crops"])
def test_validation_logs_the_names_it_says(source: Creatures, tmp_path: Path, transform) -> None:
    module, batches = make(), data(source, transform, eval_batch_size=4)
    evaluation = SplitEvaluation(batches.split("val"), transform.views, CAM, topk=(1, 5))
    module.set_evaluations([evaluation])
    trainer = fit(module, batches, tmp_path)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert set(evaluation.names()) | {"train/loss", "train/loss_step", "train/top1_error", "train/lr"} == set(logged)
    assert all(0 <= value <= 100 for value in logged.values())
    # The last epoch's values are of the weights the run ended with.
    module.eval()
    with torch.no_grad():
        for one in batches.eval_dataloader("val"):
            module._evaluate(one, 0)
    assert evaluation.scalars() == pytest.approx({name: logged[name] for name in evaluation.names()})


def test_testing_keeps_what_was_measured_by_split(source: Creatures, tmp_path: Path) -> None:
    module, batches = make(), data(source)
    evaluations = {
        name: SplitEvaluation(batches.split(name), batches.eval_transform.views, CAM) for name in ("val", "test")
    }
    module.set_evaluations(evaluations.values())
    batches.evaluated = ("val", "test")
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
    )
    trainer.test(module, datamodule=batches, verbose=False)
    assert list(module.measured) == ["val", "test"]
    for name, measured in module.measured.items():
        assert measured.curves["cam2016"]["localizer"].images == 6
        assert evaluations[name].classes.rows()["index"].tolist() == list(range(6))


def test_a_loader_that_nobody_evaluates_is_refused(source: Creatures, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="call set_evaluations"):
        fit(make(), data(source), tmp_path, limit_val_batches=1.0)


def test_unreadable_images_reach_the_evaluation(source: Creatures) -> None:
    module = make()
    evaluation = SplitEvaluation(source.split("test"), ResizeSquare(SIDE).views, CAM)
    module.set_evaluations([evaluation])
    empty = Batch(
        images=torch.empty(0, 3, SIDE, SIDE, dtype=torch.uint8),
        labels=torch.empty(0, dtype=torch.int64),
        positions=torch.empty(0, dtype=torch.int64),
        sizes=torch.empty(0, 2, dtype=torch.int64),
        skipped=torch.tensor([2, 4]),
    )
    module.test_step(empty, 0)
    assert evaluation.skipped_ids() == ["test-000002", "test-000004"]


def test_a_checkpoint_alone_rebuilds_the_network(source: Creatures, tmp_path: Path) -> None:
    config = compose("train", [*SMALL_RUN, "backbone.widths=[4,6,6,8]", "name=rebuilt"])
    network = localizer()
    module = LocalizerModule(
        network, optimizer=SGD, header=checkpoints.header(config, source.classes, network.preprocessing)
    )
    fit(module, data(source), tmp_path, max_epochs=1).save_checkpoint(tmp_path / "one.ckpt")
    content = torch.load(tmp_path / "one.ckpt", weights_only=True)
    assert content["wsol"]["classes"] == list(source.classes)
    assert {key.partition(".")[0] for key in content["state_dict"]} == {"localizer"}
    rebuilt, trained = checkpoints.load_localizer(checkpoints.read(tmp_path / "one.ckpt"), tmp_path / "one.ckpt")
    assert trained.backbone.widths == [4, 6, 6, 8]
    assert rebuilt.preprocessing == network.preprocessing
    with torch.no_grad():
        expected, _ = module.eval().maps(images(2), torch.zeros(2, 1, dtype=torch.int64))
        found, _ = LocalizerModule(rebuilt).eval().maps(images(2), torch.zeros(2, 1, dtype=torch.int64))
    assert torch.equal(expected, found)
