"""Small networks, and explainers with small settings, for the tests of explainers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from wsol.backbones.tiny import Tiny
from wsol.config import build
from wsol.explain.base import Explainer
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer

CONFIGS = Path(__file__).parents[2] / "configs" / "explainer"
SMALL = {"occlusion": {"window": 8, "stride": 4}, "integrated": {"steps": 4}}
WITHOUT_SCORES = {"ddt", "dino_attention", "lost", "patch_pca", "pc1", "tokencut"}
"""Those that explain no class scores: see test_class_agnostic.py and test_ddt.py."""
NAMES = sorted({file.stem for file in CONFIGS.glob("*.yaml")} - WITHOUT_SCORES)


class Plain(nn.Module):
    """A classifier with what trips hooks: a reused in-place ReLU, a functional one, a sum in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.norm, self.relu, self.dropout = nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout()
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        first = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = self.relu(self.norm(self.conv2(first)))
        x = self.conv2(x)
        x += first
        return self.fc(self.dropout(self.relu(x).mean((2, 3))))


def plain() -> nn.Module:
    torch.manual_seed(0)
    return Plain()


def localizer(**options) -> Localizer:
    torch.manual_seed(0)
    backbone = Tiny(widths=(4, 4, 6, 8))
    return Localizer(backbone, GapHead(backbone.named_points, 5, **options), num_classes=5)


MODELS: dict[str, Callable[[], nn.Module]] = {"localizer": localizer, "plain": plain}


def made(name: str, **changes) -> Explainer:
    node = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) | SMALL.get(name, {}) | changes
    return build.instantiate(node, "explainer")


CLASSES = torch.tensor([[3, 0], [1, 1], [4, 2], [0, 3]])
