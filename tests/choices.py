"""The choices of a config group, read from their files without Hydra: `defaults: [base, _self_]` and the difference."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from wsol.backbones.base import Backbone
from wsol.backbones.tiny import Tiny
from wsol.backbones.vit import ViT
from wsol.backbones.vit_gated import GatedViT

CONFIGS = Path(__file__).parents[1] / "configs"

SMALL_VIT = {"width": 24, "depth": 3, "heads": 2}
"""What makes a vision transformer small; its file leaves these options to the model's name."""


OF_TRANSFORMERS = {"dino_attention", "lost", "patch_pca", "tokencut"}
"""Explainers that read the patches of a vision transformer."""


def choices(group: str) -> list[str]:
    """Names of all choices, those in folders of the group too."""
    files = (CONFIGS / group).rglob("*.yaml")
    return sorted(file.relative_to(CONFIGS / group).with_suffix("").as_posix() for file in files)


def load_choice(group: str, name: str) -> DictConfig:
    """The content of a choice, laid over what its defaults name."""
    config = OmegaConf.load(CONFIGS / group / f"{name}.yaml")
    assert isinstance(config, DictConfig)
    for base in [entry for entry in config.pop("defaults", []) if entry != "_self_"]:
        base = base.removesuffix("@_here_").removeprefix(f"/{group}/")
        config = OmegaConf.merge(load_choice(group, base), config)
    return config


def load_small_backbone(name: str) -> DictConfig:
    """The content of a backbone's choice; a vision transformer's with few and thin blocks."""
    config = load_choice("backbone", name)
    return OmegaConf.merge(config, SMALL_VIT) if "heads" in config else config


def backbone_of_head(head: DictConfig) -> Backbone:
    """A small network that has the points which the head of a method reads."""
    if "gate" in head:
        return GatedViT("deit_tiny_patch16_224", gated_blocks=2, **SMALL_VIT)
    return ViT("deit_tiny_patch16_224", **SMALL_VIT) if "attention" in head else Tiny()
