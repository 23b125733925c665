"""A video whose frames never leave the GPU, with the CPU in its place; and what is reported where they do."""

import functools
import inspect
from contextlib import closing
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.engines.conftest import write_weights
from tests.engines.host_device import HostDevice
from tests.media.gpu_frame import GpuPlane, decode_on_gpu, stay_on_gpu
from tests.media.synth import STEP, write
from tests.networks import TEMPORAL
from vderain.clips import Window
from vderain.engines.backends.cuda import CudaBackend
from vderain.engines.store.cache import EngineCache
from vderain.errors import SourceError
from vderain.frames import DevicePlanes, Frame, PlaneFormat
from vderain.machine import has_nvidia_gpu
from vderain.media import encoding as encoding_module
from vderain.media import open_sink, open_source
from vderain.media.frames.planes import Scaler
from vderain.media.gpu import surfaces as surfaces_module
from vderain.media.gpu.surfaces import why_not_from_device
from vderain.media.io.encoders import ENCODERS, why_closed
from vderain.options import EncodeOptions, EngineOptions, RunOptions
from vderain.pipeline import derain
from vderain.weights import find_weights

LOSSLESS = EncodeOptions(crf=0, overwrite=True)
RUN = RunOptions(strength=0.9, decoder="nvdec")


@pytest.fixture
def stay(monkeypatch):
    return functools.partial(stay_on_gpu, monkeypatch)


class OneEngine:
    """The engine of the only format, opened when it is known."""

    slots = 3

    def __init__(self, path, device):
        self.found = find_weights("fast", str(path))
        self.window = Window.of(self.found[1].config.frames, self.found[1].config.ranks)
        self.device, self.inner = device, None

    def open(self, fmt):
        if self.inner is None:
            backend = CudaBackend(*self.found, EngineOptions(), EngineCache(), device=self.device)
            self.inner = backend.open(fmt)
        return self.inner.open(fmt)

    def submit(self, clip, **wanted):
        return self.inner.submit(clip, **wanted)

    def close(self):
        if self.inner is not None:
            self.inner.close()


def clip(folder, frames, **changes):
    return write(folder / "rainy.mkv", pts=tuple(range(0, frames * STEP, STEP)), **changes)


def run(path, out, weights, decoder="nvdec"):
    options = replace(RUN, decoder=decoder)
    with (
        closing(open_source(str(path), run=options, encode=LOSSLESS)) as source,
        closing(OneEngine(weights, HostDevice())) as engine,
    ):
        sink = open_sink(str(out), source, LOSSLESS)
        return derain(source, engine, sink, options=options)


def decoded(path):
    with av.open(str(path)) as container:
        return [
            (frame.pts, frame.reformat(format="yuv420p").to_ndarray())
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize("size", [(64, 48), (66, 50)])
def test_images_go_from_decoder_to_encoder_without_the_host(tmp_path, stay, size):
    rainy = clip(tmp_path, 6, size=size)
    weights = write_weights(tmp_path / "tiny.safetensors")
    plain = run(rainy, tmp_path / "plain.mkv", weights, "software")
    stay()
    report = run(rainy, tmp_path / "dry.mkv", weights)
    (told,) = set(report.notes) - set(plain.notes)
    assert told == "6 of 6 frames went to libx264 on the GPU"
    assert (report.losses, report.frames_out) == (plain.losses, plain.frames_out)
    found, expected = decoded(tmp_path / "dry.mkv"), decoded(tmp_path / "plain.mkv")
    assert [pts for pts, _ in found] == [pts for pts, _ in expected]
    for (_, got), (_, want) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_frame_of_an_odd_size_comes_by_the_host_and_this_is_noted(tmp_path, stay):
    rainy = clip(tmp_path, 3, size=(65, 49), codec="ffv1")
    weights = write_weights(tmp_path / "tiny.safetensors")
    plain = run(rainy, tmp_path / "plain.mkv", weights, "software")
    stay()
    report = run(rainy, tmp_path / "dry.mkv", weights)
    assert "NVDEC's images were copied to the host" in " ".join(report.notes)
    assert report.frames_out == plain.frames_out
    for (_, got), (_, want) in zip(
        decoded(tmp_path / "dry.mkv"), decoded(tmp_path / "plain.mkv"), strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_images_that_an_engine_gave_on_the_host_follow_those_on_the_gpu(tmp_path, stay):
    """As when another engine takes over in the middle of a file."""
    rainy = clip(tmp_path, 6)
    stay()
    with closing(open_source(str(rainy), run=RUN, encode=LOSSLESS)) as source:
        sink = open_sink(str(tmp_path / "dry.mkv"), source, LOSSLESS)
        for number, frame in enumerate(source):
            assert isinstance(frame.planes, DevicePlanes)
            if number >= 3:
                frame = Frame(frame.planes.host, frame.format, frame.pts, frame.time_base)
            sink.write(frame)
        report = sink.finish()
    assert report.frames == 6 and "3 of 6 frames went to libx264 on the GPU" in report.notes
    for (_, got), (_, want) in zip(decoded(tmp_path / "dry.mkv"), decoded(rainy), strict=True):
        np.testing.assert_array_equal(got, want)


def test_what_is_asked_of_pyav_exists():
    from av.codec.hwaccel import HWAccel
    from av.video.frame import CudaContext

    assert HWAccel("cuda", is_hw_owned=True).options["primary_ctx"] == "1"
    assert not HWAccel("cuda", options={"primary_ctx": "1"}).is_hw_owned
    context = CudaContext(0, primary_ctx=True)
    assert (context.device_id, context.primary_ctx, context.current_ctx) == (0, True, False)
    planes = np.zeros((48, 64), np.uint8), np.zeros((24, 32, 2), np.uint8)
    image = av.VideoFrame.from_dlpack(planes, format="nv12", cuda_context=None)
    assert (image.format.name, image.sw_format) == ("nv12", None)
    wide = tuple(plane.astype(np.uint16) for plane in planes)
    assert av.VideoFrame.from_dlpack(wide, format="p010le").format.name == "p010le"
    assert "hwaccel" in inspect.getdoc(av.container.OutputContainer.add_stream)
    for name in ("h264", "hevc", "av1"):
        kinds = {config.device_type.name for config in av.Codec(name, "r").hardware_configs}
        assert "cuda" in kinds
    for name in ("h264_nvenc", "hevc_nvenc", "av1_nvenc"):
        assert "cuda" in {pixels.name for pixels in av.Codec(name, "w").video_formats}


def test_without_a_gpu_the_probe_gives_a_reason():
    if has_nvidia_gpu():
        pytest.skip("there is a GPU")
    # In FFmpeg's words, which also say what version of the driver it needs.
    assert "Cannot load libcuda" in why_not_from_device(ENCODERS["h264_nvenc"], 0)
    assert "Cannot load libcuda" in why_closed(ENCODERS["h264_nvenc"])


def test_the_encoder_that_is_tried_is_that_of_the_gpu_on_which_the_frames_lie(
    tmp_path, monkeypatch
):
    rainy, asked = clip(tmp_path, 2), []
    decode_on_gpu(monkeypatch)
    monkeypatch.setattr(GpuPlane, "__dlpack_device__", lambda plane: (2, 1))
    monkeypatch.setattr(
        surfaces_module, "HWAccel", lambda kind, **given: asked.append(given["device"])
    )
    with closing(open_source(str(rainy), run=RunOptions(), encode=LOSSLESS)) as source:
        sink = open_sink(str(tmp_path / "dry.mkv"), source, LOSSLESS)
        encoding = sink._encoding
        encoding.encoder = replace(encoding.encoder, name="h264_nvenc")
        assert isinstance(sink.takes_device_planes, bool)
        sink.abort()
    assert asked == ["1"]


def test_frames_know_their_own_planes():
    planes = DevicePlanes(PlaneFormat("yuv420", 64, 48), None, None, (2, 0), tuple)
    with pytest.raises(ValueError, match="do not fit"):
        Frame(planes, PlaneFormat("yuv420", 64, 50), pts=0, time_base=Fraction(1, 25))


def test_an_encoder_that_takes_no_frames_from_the_gpu_gets_copies_and_this_is_noted(
    tmp_path, monkeypatch
):
    rainy = clip(tmp_path, 3)
    decode_on_gpu(monkeypatch)
    monkeypatch.setattr(encoding_module, "why_not_from_device", lambda *_: "too many sessions")
    with closing(open_source(str(rainy), run=RunOptions(), encode=LOSSLESS)) as source:
        sink = open_sink(str(tmp_path / "dry.mkv"), source, LOSSLESS)
        assert not sink.takes_device_planes  # x264 is no encoder of a GPU
        sink = open_sink(str(tmp_path / "dry.mkv"), source, LOSSLESS)
        encoding, x264 = sink._encoding, sink._encoding.encoder
        encoding.encoder = replace(x264, name="h264_nvenc")
        assert not sink.takes_device_planes
        encoding.encoder = x264
        for frame in source:
            sink.write(frame)
        report = sink.finish()
    assert report.notes == [
        "h264_nvenc accepts no frames from the GPU here (too many sessions); they are copied"
    ]
    for (_, got), (_, want) in zip(decoded(tmp_path / "dry.mkv"), decoded(rainy), strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_frame_that_cannot_be_fetched_from_the_gpu_is_an_error_that_says_what_to_do(
    tmp_path, monkeypatch
):
    rainy = clip(tmp_path, 2)
    decode_on_gpu(monkeypatch)

    def fail(self, image, **wanted):
        raise av.error.ExternalError(-1, "CUDA_ERROR_LAUNCH_FAILED")

    monkeypatch.setattr(Scaler, "convert", fail)
    with (
        closing(open_source(str(rainy), run=RunOptions(), encode=LOSSLESS)) as source,
        pytest.raises(SourceError, match=r"cannot be fetched from the GPU .*decoder='software'"),
    ):
        next(iter(source)).planes[0].sum()


def test_neighbours_are_aligned_on_the_host_and_this_is_noted(tmp_path, stay):
    rainy = clip(tmp_path, 4)
    weights = write_weights(tmp_path / "tiny.safetensors", TEMPORAL)
    plain = run(rainy, tmp_path / "plain.mkv", weights, "software")
    stay()
    report = run(rainy, tmp_path / "dry.mkv", weights)
    told = sorted(set(report.notes) - set(plain.notes))
    assert told[0] == "4 of 4 frames went to libx264 on the GPU"
    assert told[1].startswith("NVDEC's images were copied to the host")
    for (_, got), (_, want) in zip(
        decoded(tmp_path / "dry.mkv"), decoded(tmp_path / "plain.mkv"), strict=True
    ):
        np.testing.assert_array_equal(got, want)
