"""Asks Torch-TensorRT's own partitioner how it would cut our graphs, without TensorRT and without a GPU.

    python tests/wheels/partition.py SITE [TIER...]

SITE holds the Python side of torch-tensorrt, and what it imports. Prints one JSON line for each graph: tier,
bit depth, share of operators with a converter in per cent, engines, and the dtypes of what is averaged. A pass
proves that every operator has a converter and that the graph becomes one engine; not that TensorRT builds it, nor
its numbers.
"""

import contextlib
import enum
import io
import json
import re
import sys
import types
from dataclasses import replace

import torch

from vderain.engines.backends.gpu_slot import Ports
from vderain.frames import PlaneFormat
from vderain.network.build import build_network
from vderain.network.config import FAST, TIERS, NlclConfig
from vderain.network.inference.graph import device_graph


class Named(type):
    """A class for every name that is asked for: enough to import and to compare, nothing computes."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = Named(f"{cls.__name__}.{name}", (), {})
        setattr(cls, name, made)
        return made

    def __call__(cls, *arguments, **named):
        return type.__call__(cls)

    def __iter__(cls):
        return iter(())

    def __or__(cls, other):
        return cls

    def __int__(cls):
        return sum(map(ord, cls.__name__)) % 997

    __index__ = __int__


class StandIn(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__") or name in ("_package_name", "tensorrt_rtx"):
            raise AttributeError(name)
        made = Named(name, (), {})
        setattr(self, name, made)
        return made


def stand_in_tensorrt():
    """A tensorrt of names only."""
    module = StandIn("tensorrt")
    module.__version__ = "11.0.0.114"
    module.__path__, module.__file__ = [], __file__
    module.__spec__ = importlib_spec("tensorrt")
    module.ITensor = type("ITensor", (), {})
    types_of_data = "FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64 INT4 FP4 E8M0"
    layouts = "LINEAR CHW2 HWC8 CHW4 CHW16 CHW32 DHWC8 CDHW32 HWC DLA_LINEAR DLA_HWC4 HWC16 DHWC"
    module.DataType = enum.Enum("DataType", types_of_data, start=0)
    module.TensorFormat = enum.Enum("TensorFormat", layouts, start=0)
    module.tensorrt = module
    sys.modules["tensorrt"] = sys.modules["tensorrt.tensorrt"] = module


def importlib_spec(name):
    from importlib.machinery import ModuleSpec

    return ModuleSpec(name, None)


def import_without_gpu(site):
    """torch_tensorrt, believing in a GPU while it is imported; every tensor stays on the CPU."""
    sys.path.insert(0, site)
    stand_in_tensorrt()
    facts = types.SimpleNamespace(
        name="none", major=9, minor=0, total_memory=1 << 37, multi_processor_count=132
    )
    cuda = torch.cuda
    cuda.get_device_capability = lambda *a, **k: (9, 0)
    cuda.get_device_name = lambda *a, **k: "none"
    cuda.current_device = lambda: 0
    cuda.get_device_properties = lambda *a, **k: facts
    cuda.mem_get_info = lambda *a, **k: (1 << 37, 1 << 37)
    if not hasattr(torch._C, "_CudaDeviceProperties"):
        torch._C._CudaDeviceProperties = object
    truly, cuda.is_available = cuda.is_available, lambda: True
    import torch_tensorrt

    cuda.is_available = truly
    torch_tensorrt.Device.to = lambda device, kind: torch.device("cpu")
    move = torch.Tensor.to

    def stay(tensor, *args, **kwargs):
        kept = [a for a in args if not (isinstance(a, (str, torch.device)) and "cuda" in str(a))]
        if "cuda" in str(kwargs.get("device", "")):
            kwargs.pop("device")
        return move(tensor, *kept, **kwargs) if kept or kwargs else tensor

    torch.Tensor.to = stay
    torch.Tensor.cuda = lambda tensor, *a, **k: tensor
    return torch_tensorrt


def partition(torch_tensorrt, config, fmt):
    """(per cent of operators with a converter, engines, dtypes of averages) of a tier's graph in float16."""
    network = build_network(config).eval().requires_grad_(False)
    padded = fmt.padded(config.multiple)
    graph = device_graph(network, padded, torch.float16)
    ports = Ports.of(config, fmt, "float16")
    inputs = tuple(torch.zeros((1, 1, *shape), dtype=ports.taken) for shape in ports.planes)
    with torch.no_grad():
        program = torch.export.export(graph, inputs)
    printed = io.StringIO()
    wanted = [torch_tensorrt.Input(tuple(t.shape), dtype=t.dtype) for t in inputs]
    with contextlib.redirect_stdout(printed):
        torch_tensorrt.dynamo.compile(program, arg_inputs=wanted, dryrun=True, min_block_size=1)
    report = printed.getvalue()
    share = re.search(r"([\d.]+)% coverage", report)
    found = float(share[1]) if share else 0.0, len(re.findall(r"TRT Engine #\d+", report))
    return *found, averaged_dtypes(program)


def averaged_dtypes(program):
    """Names of the dtypes that a program takes means of."""
    means = (node for node in program.graph.nodes if "mean" in str(node.target))
    return sorted({str(node.args[0].meta["val"].dtype) for node in means})


GRAPHS = {
    **TIERS,
    "fast, per frame": replace(FAST, frames=1, fusion="gates", ranks=()),
    "fast, gates of five": replace(FAST, frames=5, fusion="gates", ranks=()),
    "fast, median of nine": replace(FAST, frames=9, fusion="median", ranks=(1, 2, 3, 4)),
    "nlcl": NlclConfig(),
}


def main():
    torch_tensorrt = import_without_gpu(sys.argv[1])
    for tier, config in GRAPHS.items():
        if tier not in (sys.argv[2:] or GRAPHS):
            continue
        for bit_depth in (8, 10, 16):
            fmt = PlaneFormat("yuv420", 64, 48, bit_depth)
            found = partition(torch_tensorrt, config, fmt)
            sys.stdout.write(json.dumps([tier, bit_depth, *found]) + "\n")


if __name__ == "__main__":
    main()
