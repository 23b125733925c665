"""The TensorRT backend on a stand-in for a GPU."""

import sys
import types
from contextlib import closing

import pytest
import torch

from tests.engines import host_device
from tests.engines.host_device import PROGRAMS, HostDevice, install_tensorrt
from tests.engines.test_contract import make_format
from vderain.engines.backends.tensorrt import TensorRtBackend
from vderain.engines.store.cache import EngineCache
from vderain.errors import EngineBuildError, EngineLoadError
from vderain.options import EngineOptions
from vderain.weights import find_weights

FMT = make_format("gray", 6, 4)


@pytest.fixture
def stand_in(weights, monkeypatch, cache_folder):
    """Makes a tensorrt backend on a stand-in for the GPU."""
    install_tensorrt(monkeypatch)

    def make(device=None, path=weights, **options):
        found = find_weights("fast", str(path))
        settings = {
            key: options.pop(key) for key in ("slots", "precision", "device") if key in options
        }
        return TensorRtBackend(
            *found,
            EngineOptions(**settings),
            EngineCache(),
            device=device or HostDevice(),
            **options,
        )

    return make


def test_a_gpu_with_little_memory_takes_fewer_frames_at_once(stand_in):
    with closing(stand_in(HostDevice(room=1)).open(FMT)) as engine:
        assert engine.slots == 1
        notes = engine.open(FMT).notes
    assert notes == (f"the GPU has room for 1 of 3 frames of {FMT} at once",)
    with pytest.raises(EngineLoadError, match="no room for a frame"):
        stand_in(HostDevice(room=0)).open(FMT)


def test_an_engine_in_another_precision_is_not_taken_for_half(stand_in, monkeypatch):
    from vderain.engines.backends import tensorrt

    make = tensorrt.device_graph
    monkeypatch.setattr(
        tensorrt, "device_graph", lambda network, fmt, dtype: make(network, fmt, _float32())
    )
    with pytest.raises((EngineLoadError, EngineBuildError), match="are needed"):
        stand_in(precision="float16").open(FMT)


def _float32():

    return torch.float32


def test_an_engine_of_another_gpu_or_version_is_built_again(stand_in, cache_folder, monkeypatch):
    def entries():
        return len(list(cache_folder.glob("*.json")))

    stand_in().open(FMT).close()
    stand_in().open(FMT).close()
    assert entries() == 1
    other = HostDevice()
    other.name = "another GPU"
    stand_in(other).open(FMT).close()
    assert entries() == 2
    from vderain.engines.backends import tensorrt

    monkeypatch.setattr(tensorrt, "package_versions", lambda *names: (("tensorrt", "99"),))
    stand_in().open(FMT).close()
    assert entries() == 3


def test_an_engine_that_tensorrt_refuses_is_built_again(stand_in, cache_folder):
    stand_in().open(FMT).close()
    PROGRAMS.clear()  # as after an update of the driver that no version shows
    with closing(stand_in().open(FMT)) as engine:
        assert engine.open(FMT).notes == ()
    assert len(PROGRAMS) == 1


def test_frames_go_to_no_other_runtime_where_tensorrts_own_refuses(
    stand_in, cache_folder, monkeypatch
):
    """Torch-TensorRT's own module takes no samples of 8 bits."""
    asked = []

    class TorchTensorRTModule:
        def __init__(self, *arguments, **named):
            asked.append(named)

        def __call__(self, *samples):
            raise RuntimeError(f"unsupported input: {samples[0].dtype}")

    runtime = types.ModuleType("torch_tensorrt.dynamo.runtime")
    runtime.TorchTensorRTModule = TorchTensorRTModule
    monkeypatch.setitem(sys.modules, runtime.__name__, runtime)
    monkeypatch.setattr(host_device.Context, "execute_async_v3", lambda context, stream: False)
    with pytest.raises(EngineLoadError, match="TensorRT could not queue the network"):
        stand_in().open(FMT)
    assert asked == []
