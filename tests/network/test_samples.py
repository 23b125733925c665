"""The network's view of planes in numpy, against the torch module that does the same."""

import numpy as np
import pytest
import torch

from tests.engines.test_contract import make_clip
from tests.network.test_planes import YUV, formats
from tests.networks import TEMPORAL, randomized
from vderain.network.planes import PlanesNetwork
from vderain.network.samples import network_input, sample_change
from vderain.network.semi_drdnet import SemiDRDNet


@pytest.mark.parametrize("fmt", formats([*YUV, "gray", "rgb"]), ids=str)
def test_planes_come_to_the_network_and_back_as_in_torch(fmt):
    network = randomized(SemiDRDNet(TEMPORAL))
    clip = make_clip(fmt, frames=3)
    planes = [torch.from_numpy(plane.astype(np.float32))[None, None] for plane in clip.inputs]
    seen = network_input(clip.inputs, fmt, TEMPORAL.multiple)
    with torch.inference_mode():
        wanted = PlanesNetwork(network, fmt, multiple=TEMPORAL.multiple).eval()(*planes)
        answer = network.change(torch.from_numpy(seen)[None])[0].numpy()
    for plane, delta in zip(wanted, sample_change(answer, seen, fmt), strict=True):
        np.testing.assert_allclose(delta, plane[0, 0].numpy(), atol=2e-4 * fmt.peak)
