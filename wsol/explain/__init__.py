"""Explainers: methods that map the evidence for a class in an image, or the place of its one object.

They work on any localizer, and on any classifier of torchvision or timm that has the parts that they read.
"""

from wsol.explain.bagcams import BagCAMs
from wsol.explain.base import Explainer
from wsol.explain.cam import CAM
from wsol.explain.ddt import DDT
from wsol.explain.dino_attention import DINOAttention
from wsol.explain.eigencam import EigenCAM
from wsol.explain.gradcam import GradCAM
from wsol.explain.gradcam_pp import GradCAMPlusPlus
from wsol.explain.guided_backprop import GuidedBackprop
from wsol.explain.guided_gradcam import GuidedGradCAM
from wsol.explain.guided_relu import GuidedReLU
from wsol.explain.integrated_gradients import IntegratedGradients
from wsol.explain.layercam import LayerCAM
from wsol.explain.lost import LOST
from wsol.explain.occlusion import Occlusion
from wsol.explain.patch_pca import PatchPCA
from wsol.explain.pc1 import PC1
from wsol.explain.saliency import Saliency
from wsol.explain.scorecam import ScoreCAM
from wsol.explain.tokencut import TokenCut
from wsol.explain.xgradcam import XGradCAM

__all__ = [
    "CAM",
    "DDT",
    "LOST",
    "PC1",
    "BagCAMs",
    "DINOAttention",
    "EigenCAM",
    "Explainer",
    "GradCAM",
    "GradCAMPlusPlus",
    "GuidedBackprop",
    "GuidedGradCAM",
    "GuidedReLU",
    "IntegratedGradients",
    "LayerCAM",
    "Occlusion",
    "PatchPCA",
    "Saliency",
    "ScoreCAM",
    "TokenCut",
    "XGradCAM",
]
