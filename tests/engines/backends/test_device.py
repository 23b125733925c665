"""What the device's module measures, over a device that computes on the CPU."""

import numpy as np
import pytest

from tests.engines.host_device import HostDevice
from vderain.engines.backends.device import transfers_per_s


class Noting(HostDevice):
    """Keeps the host's buffers."""

    def __init__(self):
        super().__init__()
        self.buffers = []

    def host_buffer(self, shape, dtype):
        self.buffers.append(super().host_buffer(shape, dtype).fill_(7))
        return self.buffers[-1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_planes_reach_the_device_through_its_own_buffers(dtype):
    device, planes = Noting(), [np.full(shape, 3, dtype) for shape in ((4, 6), (2, 3))]
    assert transfers_per_s(device, planes, 0.01, back=False) > 0
    assert [tuple(buffer.shape) for buffer in device.buffers] == [(4, 6), (2, 3)]
    for buffer, plane in zip(device.buffers, planes, strict=True):
        np.testing.assert_array_equal(buffer.numpy(), plane)


def test_planes_come_back_into_the_hosts_memory():
    device, planes = Noting(), [np.full((5, 5), 3, np.uint8)]
    assert transfers_per_s(device, planes, 0.01, back=True) > 0
    np.testing.assert_array_equal(planes[0], device.buffers[0].numpy())
