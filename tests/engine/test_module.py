"""The LightningModule: its steps against plain torch, and what a run of it leaves behind."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torchvision.transforms.v2 import CutMix, MixUp
from torchvision.transforms.v2.functional import normalize, to_dtype

from tests.engine.modules import CLASSES, batch, data, equal, fit, images, localizer, make, weights
from wsol.data.datasets.creatures import Creatures
from wsol.engine.module import LocalizerModule
from wsol.engine.optim import constant, step
from wsol.errors import InputError

without_trainer = pytest.mark.filterwarnings("ignore:.*`self.trainer` reference is not registered.*")
"""Of tests that call `training_step` themselves."""


def test_normalise_is_torchvision_s() -> None:
    module = make()
    want = module.localizer.preprocessing
    pixels = images(3)
    before = pixels.clone()
    expected = normalize(to_dtype(pixels, torch.float32, scale=True), list(want.mean), list(want.std))
    found = module.normalise(pixels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    assert torch.equal(pixels, before)


@without_trainer
def test_one_step_s_loss_is_the_cross_entropy_of_the_smoothed_labels() -> None:
    module, one = make(label_smoothing=0.3).eval(), batch()
    smooth = torch.full((6, CLASSES), 0.3 / CLASSES)
    smooth[torch.arange(6), one.labels] += 0.7
    logits = module.localizer(module.normalise(one.images)).logits
    expected = -(smooth * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(module.training_step(one, 0), expected)


@without_trainer
def test_label_smoothing_lies_in_0_to_1() -> None:
    for value in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match=r"label_smoothing must lie in \[0, 1\)"):
            make(label_smoothing=value)
    for value in (0.0, 0.999):
        assert make(label_smoothing=value).training_step(batch(), 0).isfinite()


@without_trainer
@pytest.mark.parametrize("kind", [CutMix, MixUp])
def test_torchvision_s_mixing_gives_soft_targets(kind) -> None:
    seen = []

    def watch(pixels, targets):
        seen.append((pixels, targets))
        return pixels, targets

    module, one = make(batch_transforms=[watch, kind(num_classes=CLASSES, alpha=1.0), watch]), batch()
    before = one.images.clone()
    torch.manual_seed(5)
    loss = module.training_step(one, 0)
    (plain, hard), (mixed, soft) = seen
    assert torch.equal(hard, torch.nn.functional.one_hot(one.labels, CLASSES).float())
    assert (soft.dtype, soft.shape) == (torch.float32, (6, CLASSES))
    torch.testing.assert_close(soft.sum(1), torch.ones(6))
    assert ((soft > 0) & (soft < 1)).any()
    assert not torch.equal(plain, mixed)
    assert torch.equal(plain, module.normalise(before))  # nothing was mixed in place
    assert torch.equal(one.images, before)
    logits = make().train().localizer(mixed).logits
    torch.testing.assert_close(loss, -(soft * logits.log_softmax(1)).sum(1).mean())
    loss.backward()
    assert all(p.grad is not None for p in module.localizer.parameters())


def test_metrics_of_a_step_are_its_means_and_count_images(monkeypatch: pytest.MonkeyPatch) -> None:
    module, seen = make().eval(), {}
    monkeypatch.setattr(module, "log", lambda name, value, **how: seen.update({name: (value, how)}))
    one = batch(6)
    loss = module.training_step(one, 0)
    logits = module.localizer(module.normalise(one.images)).logits
    assert seen["train/loss"][0] == loss
    assert seen["train/top1_error"][0].item() == pytest.approx(100 * (logits.argmax(1) != one.labels).float().mean())
    value, how = seen.pop("train/loss_step")
    assert (value, how["on_step"], how["on_epoch"]) == (loss, True, False)
    for _, how in seen.values():
        assert (how["batch_size"], how["on_step"], how["on_epoch"], how["sync_dist"]) == (6, False, True, True)


@torch.no_grad()
def test_maps_come_with_the_scores_of_one_pass() -> None:
    module = make().eval()
    calls = []
    module.localizer.backbone.register_forward_hook(lambda *_: calls.append(1))
    classes = torch.tensor([[1, 4], [0, 7], [2, 2]])
    logits, maps = module.maps(images(3), classes)
    assert len(calls) == 1
    output = module.localizer(module.normalise(images(3)))
    assert torch.equal(logits, output.logits)
    assert maps.shape == (3, 1, 2, 8, 8)
    assert torch.equal(maps[:, 0], module.localizer.maps(output, classes))


@torch.no_grad()
def test_views_are_averaged_as_by_hand() -> None:
    module = make().eval()
    # An untrained classifier hardly tells views apart: sharpen it.
    module.localizer.head.classifier.weight *= 50
    many = images(3, 4)
    classes = torch.tensor([[1, 4], [0, 7], [2, 5]])
    logits, maps = module.maps(many, classes)
    assert maps.shape == (3, 4, 2, 8, 8)
    for n in range(3):
        each = [module.localizer(module.normalise(many[n, v][None])) for v in range(4)]
        mean = torch.stack([output.logits[0].softmax(0) for output in each]).mean(0)
        torch.testing.assert_close(logits[n].softmax(0), mean)
        torch.testing.assert_close(logits[n].logsumexp(0), torch.tensor(0.0), atol=1e-5, rtol=0)
        for v in range(4):
            expected = module.localizer.maps(each[v], classes[n][None])[0]
            torch.testing.assert_close(maps[n, v], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_layout_in_memory_changes_no_score() -> None:
    last, first = (make(channels_last=layout).eval() for layout in (True, False))
    assert last.normalise(images(3)).is_contiguous(memory_format=torch.channels_last)
    assert first.normalise(images(3)).is_contiguous()
    assert last.localizer.backbone.conv2[0].weight.is_contiguous(memory_format=torch.channels_last)
    classes = torch.arange(3)[:, None]
    for a, b in zip(last.maps(images(3), classes), first.maps(images(3), classes), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def draw(seed: int, epoch: int, rank: int, step: int = 0) -> list[float]:
    module = make(seed)
    trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    module.trainer = trainer
    module.on_train_batch_start(batch(), step)
    return torch.rand(4).tolist()


def test_draws_depend_on_seed_epoch_process_and_step_alone() -> None:
    base = draw(1, 2, 3)
    torch.manual_seed(99)
    assert draw(1, 2, 3) == base
    assert (
        len({tuple(draw(*place)) for place in [(1, 2, 3), (0, 2, 3), (1, 0, 3), (1, 2, 0), (2, 1, 3), (1, 2, 3, 4)]})
        == 6
    )


def test_what_was_drawn_before_training_does_not_matter(source: Creatures, tmp_path: Path) -> None:
    found = []
    for before in (1, 2):
        module = make(head={"dropout": 0.5}, batch_transforms=[MixUp(num_classes=CLASSES)])
        torch.manual_seed(before)
        fit(module, data(source), tmp_path)
        found.append(weights(module))
    assert equal(*found)
    other = make(seed=1, head={"dropout": 0.5}, batch_transforms=[MixUp(num_classes=CLASSES)])
    fit(other, data(source), tmp_path)
    assert not equal(found[0], weights(other))


def test_factors_of_the_groups_arrive_in_the_optimizer() -> None:
    factors = {"head": {"lr": 10.0, "bias_lr": 20.0, "bias_weight_decay": 0.0}}
    module = make(factors=factors)
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.SGD)
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert groups["backbone"]["lr"] == pytest.approx(0.05)
    assert groups["head"]["lr"] == pytest.approx(0.5)
    assert groups["head.bias"]["lr"] == pytest.approx(1.0)
    assert groups["head.bias"]["weight_decay"] == 0
    assert groups["head"]["weight_decay"] == pytest.approx(1e-3)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(held) == len(set(map(id, held))) == len(list(module.localizer.parameters()))
    assert set(map(id, groups["head"]["params"])) == {id(module.localizer.head.classifier.weight)}


def test_a_module_for_evaluation_does_not_train() -> None:
    with pytest.raises(InputError, match="pass an optimizer"):
        LocalizerModule(localizer()).configure_optimizers()
    with pytest.raises(InputError, match=r"set optim\.optimizer\.lr"):
        LocalizerModule(localizer(), optimizer=partial(torch.optim.AdamW)).configure_optimizers()


class Steps(pl.Callback):
    """Notes the gradient's norm and the learning rate of each optimizer step."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.rates: list[float] = []
        self.clipped: list[float] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.norms.append(_norm(pl_module))
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_before_zero_grad(self, trainer, pl_module, optimizer) -> None:
        self.clipped.append(_norm(pl_module))


def _norm(module) -> float:
    gradients = [p.grad.flatten() for p in module.localizer.parameters() if p.grad is not None]
    return float(torch.cat(gradients).norm()) if gradients else 0.0


def test_accumulation_clipping_and_a_schedule_by_optimizer_steps(source: Creatures, tmp_path: Path) -> None:
    steps = Steps()
    module = make(schedule=partial(step, every_epochs=1, gamma=0.1))
    trainer = fit(
        module,
        data(source, batch_size=4),
        tmp_path,
        accumulate_grad_batches=3,
        gradient_clip_val=0.01,
        callbacks=[steps],
    )
    assert trainer.global_step == 4  # 24 images in 6 batches, of which 3 make a step, for 2 epochs
    np.testing.assert_allclose(steps.rates, [0.05, 0.05, 0.005, 0.005])
    assert min(steps.norms) > 0.01
    assert max(steps.clipped) == pytest.approx(0.01, rel=1e-3)


def test_accumulated_batches_are_one_large_batch(source: Creatures, tmp_path: Path) -> None:
    found = []
    for size, batches in ((8, 1), (4, 2)):
        module = make(schedule=constant)
        for layer in ("conv1", "conv2", "conv3", "conv4"):  # batches of other sizes have other statistics
            getattr(module.localizer.backbone, layer)[1] = torch.nn.Identity()
        fit(module, data(source, batch_size=size), tmp_path, accumulate_grad_batches=batches, max_epochs=1)
        found.append(weights(module))
    for key, value in found[0].items():
        torch.testing.assert_close(value, found[1][key], rtol=1e-4, atol=1e-5, msg=key)
