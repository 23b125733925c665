"""What the machine says of itself."""

import ctypes
from types import SimpleNamespace

import pytest

from vderain import machine


def driver(*names):
    """NVIDIA's driver with GPUs of these names."""

    def put(place, value):
        place._obj.value = value
        return 0

    def name(buffer, length, device):
        buffer.value = names[device.value].encode()
        return 0

    return SimpleNamespace(
        cuInit=lambda flags: 0 if names else 100,
        cuDeviceGetCount=lambda count: put(count, len(names)),
        cuDriverGetVersion=lambda version: put(version, 13000),
        cuDeviceGet=put,
        cuDeviceGetName=name,
    )


@pytest.mark.parametrize("names", [(), ("NVIDIA H100",), ("NVIDIA A2", "NVIDIA L4")])
def test_gpus_are_known_by_what_the_driver_calls_them(monkeypatch, names):
    monkeypatch.setattr(ctypes, "CDLL", lambda library: driver(*names))
    assert machine.nvidia_gpu_names() == tuple(f"{name}, CUDA 13000" for name in names)
    assert machine.has_nvidia_gpu() == bool(names)


def test_without_a_driver_there_is_no_gpu(monkeypatch):
    def missing(library):
        raise OSError(library)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert machine.nvidia_gpu_names() == () and not machine.has_nvidia_gpu()
