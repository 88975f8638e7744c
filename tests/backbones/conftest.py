import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tests.choices import choices, load_small_backbone

NAMES = choices("backbone")


def make(name, **options):
    torch.manual_seed(0)
    config = load_small_backbone(name)
    OmegaConf.set_struct(config, True)
    try:
        return instantiate(OmegaConf.merge(config, options))
    except InstantiationException as error:
        raise error.__cause__ from None


def random_images(count, network):
    side = max(64, network.min_size)
    sides = [fitting(network, side), fitting(network, side + 32)]
    return torch.randn(count, 3, *sides, generator=torch.Generator().manual_seed(2))


def fitting(network, side):
    """The side of an image, or the next one up that the network takes."""
    return -(-side // network.multiple) * network.multiple


@pytest.fixture(scope="module", params=NAMES)
def backbone(request):
    """Each backbone of configs/backbone in turn, in eval mode, with random weights and lively batch statistics."""
    network = make(request.param)
    with torch.no_grad():
        network.train()(random_images(2, network))
    return network.eval()


@pytest.fixture
def images(backbone):
    """Two images as small as the backbone of the moment takes well."""
    return random_images(2, backbone)


@pytest.fixture(params=NAMES)
def name(request):
    """Each file of configs/backbone in turn."""
    return request.param


@pytest.fixture
def build():
    """Return a function that makes the backbone of a file with some options replaced."""
    return make
