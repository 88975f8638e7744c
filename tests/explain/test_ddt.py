"""DDT: against a plain computation of each class's component, and what it refuses."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wsol.backbones.tiny import Tiny
from wsol.errors import InputError
from wsol.explain import DDT
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer

LABELS = torch.tensor([0, 0, 2, 2, 2])


@pytest.fixture
def model() -> Localizer:
    torch.manual_seed(0)
    return Localizer(Tiny(widths=(4, 4, 6, 8)), partial(GapHead), num_classes=5)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 3, 24, 24, generator=torch.Generator().manual_seed(1))


def test_maps_are_projections_on_the_component_of_the_class(model: Localizer, images: Tensor, tmp_path: Path) -> None:
    explainer = DDT("last")
    explainer.fit(model, [(images[:3], LABELS[:3]), (images[3:], LABELS[3:])])  # a class may span batches
    maps = explainer(model, images, torch.tensor([[0, 2]] * 5))
    with torch.no_grad():
        features = model.eval().backbone(images)["last"].double()
    for column, label in enumerate((0, 2)):
        cells = features[label == LABELS].movedim(1, -1).flatten(0, 2)
        _, _, rows = torch.linalg.svd(cells - cells.mean(0), full_matrices=False)
        values = torch.einsum("nchw,c->nhw", features - cells.mean(0)[:, None, None], rows[0])
        border = torch.ones(values.shape[1:], dtype=torch.bool)
        border[1:-1, 1:-1] = False
        of_class = values[label == LABELS]
        expected = -values if of_class[:, border].mean() > 0 else values
        torch.testing.assert_close(maps[:, column], expected.float(), rtol=1e-3, atol=1e-4)
    explainer.save(tmp_path / "explainer.safetensors")
    assert torch.equal(DDT("last", state=tmp_path)(model, images, torch.tensor([[0, 2]] * 5)), maps)
    assert explainer.about()["classes"] == 2


def test_what_it_refuses(model: Localizer, images: Tensor) -> None:
    explainer = DDT("last")
    asked = torch.zeros(5, 1, dtype=torch.int64)
    with pytest.raises(InputError, match="DDT has no statistics of a dataset"):
        explainer(model, images, asked)
    with pytest.raises(InputError, match="an image of class 0 came after one of class 2"):
        explainer.fit(model, [(images, LABELS), (images, LABELS)])
    with pytest.raises(InputError, match="there is no image to fit on"):
        explainer.fit(model, [])
    with pytest.raises(InputError, match="unknown sign"):
        DDT(sign="skew")
    explainer.fit(model, [(images, LABELS)])
    with pytest.raises(InputError, match="class 1: DDT was fitted on 2 classes, 0 to 2, and had no image of"):
        explainer(model, images, asked + 1)
