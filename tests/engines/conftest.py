import pytest
import torch

from tests.networks import TINY, randomized
from vderain.engines.backends.openvino import OpenVinoBackend
from vderain.errors import EngineBuildError
from vderain.network.build import build_network
from vderain.network.card import Card
from vderain.network.config import NlclConfig
from vderain.weights import save_network

# What an untrained network answers is brought to some per cent of the range, as a trained one's is.
GAIN = 0.1


def openvino_backend(*arguments):
    """OpenVINO's backend; skips where this CPU cannot compute in the precision that is asked for."""
    try:
        return OpenVinoBackend(*arguments)
    except EngineBuildError as error:
        if "cannot compute in it" not in str(error):
            raise
        pytest.skip(str(error))


def write_weights(path, config=TINY, seed=0, spoil=None):
    """Weights of a random network and their card; ``spoil`` changes the network before."""
    torch.manual_seed(seed)
    network = randomized(build_network(config), seed)
    # NLCL draws the whole image, whose middle is zero: less of it is a change all the same.
    parts = [network] if isinstance(config, NlclConfig) else [network.rain, network.detail]
    for part in parts:
        part.tail.weight.mul_(GAIN)
        part.tail.bias.mul_(GAIN)
    if spoil is not None:
        spoil(network)
    save_network(network, path, Card("tiny", config, sha256=""))
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    """A cache of the test's own, which pools of this process use."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("VDERAIN_CACHE", str(folder))
    return folder
