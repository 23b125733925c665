"""Decoded frames as PyAV gives them on a GPU, but in the host's memory: NV12 or P010 behind ``cuda`` frames."""

from types import SimpleNamespace

from vderain.media import encoding
from vderain.media import source as source_module
from vderain.media.frames import color
from vderain.media.frames.decoding import Decoder
from vderain.media.frames.planes import Scaler
from vderain.media.io.open import open_container

NAMES = {"yuv420p": "nv12", "yuv420p10le": "p010le"}


class GpuPlane:
    """A plane of a CUDA frame: no buffer, and DLPack without a stream only."""

    def __init__(self, plane):
        self.plane = plane

    def __dlpack_device__(self):
        return self.plane.__dlpack_device__()

    def __dlpack__(self, *, stream=None):
        if stream is not None:
            raise NotImplementedError("CUDA stream synchronization is not supported")
        return self.plane.__dlpack__()


class GpuFrame:
    """``av.VideoFrame`` with ``is_hw_owned``."""

    format = SimpleNamespace(name="cuda")

    def __init__(self, frame):
        self.frame = frame.reformat(format=NAMES.get(frame.format.name, frame.format.name))
        self.sw_format = self.frame.format
        self.planes = tuple(GpuPlane(plane) for plane in self.frame.planes)
        self.side_data, self.rotation = frame.side_data, frame.rotation

    def __getattr__(self, name):
        return getattr(self.frame, name)


def decode_on_gpu(monkeypatch):
    """Let every decoder give such frames."""
    decode, convert = Decoder.decode, Scaler.convert

    def on_gpu(self, packet):
        return [GpuFrame(frame) for frame in decode(self, packet)]

    def from_gpu(self, frame, **wanted):
        return convert(self, getattr(frame, "frame", frame), **wanted)

    monkeypatch.setattr(Decoder, "decode", on_gpu)
    monkeypatch.setattr(Scaler, "convert", from_gpu)
    monkeypatch.setattr(color, "_read_side_data", lambda frame: list(frame.side_data))


def stay_on_gpu(monkeypatch):
    """Decoder and encoder of a GPU: frames lie there, and x264 takes them as NVENC would."""
    decode_on_gpu(monkeypatch)
    monkeypatch.setattr(encoding.Encoding, "takes_device_planes", True)

    def opened(decoder, path, pipe, **options):
        return open_container(path), ""

    monkeypatch.setattr(source_module, "open_for", opened)
    monkeypatch.setattr(source_module, "stays_in_software", lambda stream: "")
