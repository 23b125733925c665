"""What the machine says of itself."""

import ctypes

import pytest

from vderain import machine


class Driver:
    """NVIDIA's driver with GPUs of these names."""

    def __init__(self, *names):
        self.names = names

    def cuInit(self, flags):  # noqa: N802  # the driver's own names
        return 0 if self.names else 100

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = len(self.names)
        return 0

    def cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = 13000
        return 0

    def cuDeviceGet(self, device, index):  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name, length, device):  # noqa: N802
        name.value = self.names[device.value].encode()
        return 0


@pytest.mark.parametrize("names", [(), ("NVIDIA H100",), ("NVIDIA A2", "NVIDIA L4")])
def test_gpus_are_known_by_what_the_driver_calls_them(monkeypatch, names):
    monkeypatch.setattr(ctypes, "CDLL", lambda library: Driver(*names))
    assert machine.nvidia_gpu_names() == tuple(f"{name}, CUDA 13000" for name in names)
    assert machine.has_nvidia_gpu() == bool(names)


def test_without_a_driver_there_is_no_gpu(monkeypatch):
    def missing(library):
        raise OSError(library)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert machine.nvidia_gpu_names() == () and not machine.has_nvidia_gpu()
