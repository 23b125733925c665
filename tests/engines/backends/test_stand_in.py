"""What CI proves of GPUs depends on tests that a stand-in runs."""

from tests.engines.backends import test_gpu
from tests.media.gpu import test_nvdec, test_surfaces


def marks(thing):
    found = getattr(thing, "pytestmark", [])
    return [mark.name for mark in (found if isinstance(found, list) else [found])]


def test_no_test_for_gpus_waits_for_a_gpu():
    for module in (test_gpu, test_nvdec, test_surfaces):
        tests = [value for name, value in vars(module).items() if name.startswith("test_")]
        found = {name for thing in (module, *tests) for name in marks(thing)}
        assert tests and not found & {"skip", "skipif"}
    assert "needs_cuda" in marks(test_gpu)  # benchmarks/gpu.py runs them on a GPU
