"""Backbones, one file per family: networks whose features can be read and edited at named points."""

from wsol.backbones.alexnet import AlexNet, AlexNetStar
from wsol.backbones.base import Backbone
from wsol.backbones.googlenet import GoogLeNet
from wsol.backbones.inception import InceptionV3
from wsol.backbones.mobilenet_v1 import MobileNetV1
from wsol.backbones.resnet import ResNet
from wsol.backbones.timm import Timm
from wsol.backbones.tiny import Tiny
from wsol.backbones.vgg import VGG
from wsol.backbones.vit import ViT
from wsol.backbones.vit_gated import GatedViT

__all__ = [
    "VGG",
    "AlexNet",
    "AlexNetStar",
    "Backbone",
    "GatedViT",
    "GoogLeNet",
    "InceptionV3",
    "MobileNetV1",
    "ResNet",
    "Timm",
    "Tiny",
    "ViT",
]
