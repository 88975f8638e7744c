"""Metrics in a LightningModule: logged by themselves, and a checkpoint chosen by one."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection

from tests.metrics.cases import BOXES, CASES, LABELS, LOGITS, MAPS, MASKS, SCORES, SIZE, whole
from wsol.metrics import LocalizationError, MaxBoxAcc, PxAP, TopKError


class Evaluated(pl.LightningModule):
    """Learns nothing; each epoch validates with more of the images."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.boxes, self.pixels = MaxBoxAcc(), PxAP()
        self.errors = MetricCollection({"classes": TopKError(), "boxes": LocalizationError("cam2016")})

    def training_step(self, batch: torch.Tensor, number: int) -> torch.Tensor:
        return self.layer(batch[:, None].float()).sum()

    def validation_step(self, batch: torch.Tensor, number: int) -> None:
        some = batch[batch < 4 * (self.current_epoch + 1)].tolist()
        if not some:
            return
        maps, boxes, labels = torch.from_numpy(MAPS[some]), BOXES[some], LABELS[some]
        self.boxes(maps, boxes, [SIZE] * len(some))
        self.pixels(SCORES[some], MASKS[some], index=some)
        self.errors["classes"].update(LOGITS[some], labels)
        self.errors["boxes"].update(maps, boxes, [SIZE] * len(some), logits=LOGITS[some], labels=labels)
        self.log("val/MaxBoxAcc", self.boxes, on_epoch=True)
        self.log("val/PxAP", self.pixels, on_epoch=True)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.errors.compute())
        self.errors.reset()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_checkpoint_is_chosen_by_a_logged_metric(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path, monitor="val/MaxBoxAcc", mode="max", filename="{epoch}")
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        callbacks=[best],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    images = DataLoader(torch.arange(12), batch_size=5)
    trainer.fit(Evaluated(), images, images)
    values = [whole(CASES["MaxBoxAcc"], range(4 * (epoch + 1)))["value"] for epoch in range(3)]
    assert best.best_model_score == pytest.approx(max(values))
    assert Path(best.best_model_path).stem == f"epoch={values.index(max(values))}"
    logged = trainer.callback_metrics
    assert logged["val/PxAP"] == pytest.approx(whole(CASES["PxAP"])["value"])
    assert logged["classes_top1_error"] == pytest.approx(whole(CASES["TopKError"])["top1_error"])
    expected = whole(CASES["LocalizationError"])["gt_known_error"]
    assert logged["boxes_gt_known_error"] == pytest.approx(expected)
