"""What a GPU must give: the maps of every explainer and the scores of a network as on a CPU. Skipped without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from wsol.api import create_localizer
from wsol.config import build
from wsol.errors import InputError
from wsol.explain.base import Explainer
from wsol.models.localizer import Localizer
from wsol.models.precision import evaluation_precision

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
EXPLAINERS = sorted((Path(__file__).parent.parent / "configs" / "explainer").glob("*.yaml"))
SMALL = {"occlusion": {"window": 32, "stride": 16}, "integrated_gradients": {"steps": 4}}


def networks() -> list[Localizer]:
    """Networks of which an explainer knows at least one: a CNN, and a transformer with attention."""
    torch.manual_seed(0)
    cnn = create_localizer("resnet18", num_classes=5)
    return [cnn.eval(), create_localizer("deit_t", method="tscam", num_classes=5).eval()]


def maps(explainer: Explainer, network: Localizer, device: str) -> torch.Tensor:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([[1, 2], [3, 0]])
    return explainer(network.to(device), images.to(device), classes.to(device)).cpu()


@pytest.mark.parametrize("file", EXPLAINERS, ids=lambda file: file.stem)
def test_an_explainer_gives_the_same_maps_as_on_a_cpu(file: Path) -> None:
    explainer = build.instantiate(yaml.safe_load(file.read_text()) | SMALL.get(file.stem, {}), "explainer")
    compared = 0
    for network in networks():
        try:
            expected = maps(explainer, network, "cpu")
        except InputError:  # this network has not what the explainer needs
            continue
        found = maps(explainer, network, "cuda")
        scale = expected.abs().amax((2, 3), keepdim=True).clamp(min=1e-12)
        assert (found - expected).div(scale).abs().max() < 1e-4
        compared += 1
    assert compared


@pytest.mark.parametrize("network", range(2), ids=["resnet18", "deit_t"])
def test_a_network_gives_the_same_scores_and_maps_as_on_a_cpu(network: int) -> None:
    net = networks()[network]
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), evaluation_precision("cuda"):
        on_cpu = net(images)
        cpu_maps = net.maps(on_cpu, torch.tensor([[1], [3]]))
        on_gpu = net.to("cuda")(images.cuda())
        gpu_maps = net.maps(on_gpu, torch.tensor([[1], [3]]).cuda())
    torch.testing.assert_close(on_gpu.logits.cpu(), on_cpu.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gpu_maps.cpu(), cpu_maps, rtol=1e-4, atol=1e-4)
