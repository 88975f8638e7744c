"""Explainers: attribution methods that make a map of what in an image speaks for a class.

Each can be asked about any localizer and any classifier of torchvision or timm.
"""

from wsol.explain.base import Explainer
from wsol.explain.cam import CAM
from wsol.explain.eigencam import EigenCAM
from wsol.explain.gradcam import GradCAM
from wsol.explain.gradcam_pp import GradCAMPlusPlus
from wsol.explain.guided_backprop import GuidedBackprop
from wsol.explain.guided_gradcam import GuidedGradCAM
from wsol.explain.integrated_gradients import IntegratedGradients
from wsol.explain.layercam import LayerCAM
from wsol.explain.occlusion import Occlusion
from wsol.explain.saliency import Saliency
from wsol.explain.scorecam import ScoreCAM
from wsol.explain.xgradcam import XGradCAM

__all__ = [
    "CAM",
    "EigenCAM",
    "Explainer",
    "GradCAM",
    "GradCAMPlusPlus",
    "GuidedBackprop",
    "GuidedGradCAM",
    "IntegratedGradients",
    "LayerCAM",
    "Occlusion",
    "Saliency",
    "ScoreCAM",
    "XGradCAM",
]
