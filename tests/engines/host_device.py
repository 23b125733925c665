"""Stand-ins for a GPU: a device whose streams run at once on the CPU, and a tensorrt that runs exported programs.

They hold the engines to what CUDA and TensorRT would hold them to: work is queued on a slot's own stream,
between upload and event; buffers are bound by name and address, with the shapes and dtypes of the engine.
"""

import contextlib
import ctypes
import enum
import importlib.machinery
import os
import types
import weakref

import numpy as np
import torch


class HostStream:
    """Runs what is queued on it at once; counts it."""

    def __init__(self, device):
        self.device = device
        self.cuda_stream = id(self)
        self.recorded = 0


class HostEvent:
    def __init__(self, device):
        self.device = device
        self.recorded = self.was_recorded = False
        self.followers = []  # streams that waited for it

    def record(self, stream):
        assert self.device.stream_in_use is stream, "an event is recorded on another stream"
        self.recorded = self.was_recorded = True

    def synchronize(self):
        assert self.recorded, "waiting for an event that nobody recorded"
        self.recorded = False


class HostDevice:
    """The CPU in a GPU's place; ``room`` is how many slots its memory holds."""

    def __init__(self, room=16, free_bytes=1 << 34, total_bytes=1 << 34, index=0):
        self.torch_device = torch.device("cpu")
        self.name = f"stand-in {index}" if index else "stand-in"
        self.features = ("compute 0.0",)
        self.room = room
        self.free = free_bytes
        self.total = total_bytes
        self.stream_in_use = None
        self.replays, self.replaying = 0, False
        self.streams = weakref.WeakSet()
        self.followed = []  # streams that waited for decoders
        self.surfaces = 0  # that were made for encoders

    def free_bytes(self):
        return self.free

    def total_bytes(self):
        return self.total

    def stream(self):
        if len(self.streams) >= self.room:
            raise torch.OutOfMemoryError("out of memory")
        stream = HostStream(self)
        self.streams.add(stream)
        return stream

    @contextlib.contextmanager
    def on(self, stream):
        before, self.stream_in_use = self.stream_in_use, stream
        try:
            with self.current():
                yield
        finally:
            self.stream_in_use = before

    @contextlib.contextmanager
    def current(self):
        CURRENT.append(self)
        try:
            yield
        finally:
            CURRENT.pop()

    def follow_decoder(self, stream):
        self.followed.append(stream)

    def follow(self, stream, event):
        assert event.was_recorded, "waiting for an event that nobody recorded"
        event.followers.append(stream)

    def event(self):
        return HostEvent(self)

    def host_buffer(self, shape, dtype):
        return torch.empty(shape, dtype=dtype)

    def captured(self, step, stream):
        def replay():
            assert self.stream_in_use is stream, "a graph is replayed on another stream"
            self.replays += 1
            self.replaying = True
            try:
                step()
            finally:
                self.replaying = False

        step()
        return replay

    @contextlib.contextmanager
    def surface_memory(self):
        self.surfaces += 1
        yield

    def release(self):
        pass


CURRENT = []  # devices that are torch's current one, the innermost last
PROGRAMS = {}  # what each "serialised engine" of this process stands for


class DataType(enum.Enum):
    UINT8 = torch.uint8
    INT32 = torch.int32
    HALF = torch.float16
    FLOAT = torch.float32


class TensorIOMode(enum.Enum):
    INPUT = 0
    OUTPUT = 1


class Logger:
    WARNING = 2

    def __init__(self, level):
        pass


class Runtime:
    def __init__(self, logger):
        pass

    def deserialize_cuda_engine(self, blob):
        assert CURRENT, "TensorRT loads onto torch's current GPU"
        program = PROGRAMS.get(blob)
        return Engine(program) if program else None  # as TensorRT does, after a line in its log


class Engine:
    """An exported program behind ICudaEngine's names."""

    def __init__(self, program):
        self.module = program.module()
        nodes = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
        inputs = {name: nodes[name] for name in program.graph_signature.user_inputs}
        outputs = [nodes[name] for name in program.graph_signature.user_outputs]
        self.tensors = {**inputs, **{f"output{i}": value for i, value in enumerate(outputs)}}
        self.inputs = list(inputs)
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name):
        return tuple(self.tensors[name].shape)

    def get_tensor_dtype(self, name):
        return DataType(self.tensors[name].dtype)

    def create_execution_context(self):
        assert CURRENT, "TensorRT's contexts take memory of torch's current GPU"
        return Context(self)


class Context:
    def __init__(self, engine):
        self.engine = engine
        self.addresses = {}

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return name in self.engine.tensors

    def execute_async_v3(self, stream_handle):
        assert stream_handle, "TensorRT needs a stream of its own"
        engine = self.engine
        inputs = [self._view(name) for name in engine.inputs]
        outputs = [name for name in engine.tensors if name not in engine.inputs]
        answers = engine.module(*inputs)
        answers = (answers,) if isinstance(answers, torch.Tensor) else answers
        for name, answer in zip(outputs, answers, strict=True):
            self._view(name).copy_(answer)
        return True

    def _view(self, name):
        """The caller's memory at the address that was bound."""
        tensor = self.engine.tensors[name]
        size = tensor.numel() * tensor.element_size()
        memory = (ctypes.c_uint8 * size).from_address(self.addresses[name])
        values = torch.from_numpy(np.frombuffer(memory, np.uint8))
        return values.view(tensor.dtype).view(tensor.shape)


def convert(
    program, *, arg_inputs, device, require_full_compilation, timing_cache_path, **settings
):
    assert CURRENT, "TensorRT builds on torch's current GPU"
    assert not os.path.exists(timing_cache_path), "others' timings are taken"
    """Torch-TensorRT's conversion: a name for the program, as bytes."""
    assert settings["num_avg_timing_iters"] > 1, "a run on the same GPU spoils single timings"
    assert require_full_compilation and not settings["cache_built_engines"]
    blob = f"engine {len(PROGRAMS)}".encode()
    PROGRAMS[blob] = program
    return blob


def tensorrt_modules():
    """What ``sys.modules`` needs so that the engine finds its packages."""
    tensorrt = _module("tensorrt")
    for thing in (DataType, TensorIOMode, Logger, Runtime):
        setattr(tensorrt, thing.__name__, thing)
    names = ("torch_tensorrt", "torch_tensorrt.dynamo")
    package, dynamo = (_module(name) for name in names)
    package.dynamo = dynamo
    dynamo.convert_exported_program_to_serialized_trt_engine = convert
    return {"tensorrt": tensorrt, **dict(zip(names, (package, dynamo), strict=True))}


def _module(name):
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)  # torch looks for it
    return module


def install_tensorrt(monkeypatch, version="2.13.0"):
    """Let the tensorrt engine find the stand-ins."""
    import sys

    from vderain.engines.backends import tensorrt

    for name, module in tensorrt_modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(tensorrt, "package_version", lambda *names: version)


class BufferKnowing(HostDevice):
    """Knows its buffers on the host's side."""

    def __init__(self):
        super().__init__()
        self.buffers = {}  # kept, or what is allocated later could lie where one of them lay

    def host_buffer(self, shape, dtype):
        buffer = super().host_buffer(shape, dtype)
        self.buffers[buffer.data_ptr()] = buffer
        return buffer

    def is_host(self, tensor):
        return tensor.untyped_storage().data_ptr() in self.buffers
