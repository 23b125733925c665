"""NVDEC where there is one; where there is none, the same frames, and a note."""

import itertools
from contextlib import closing
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from tests.media.gpu_frame import GpuFrame, decode_on_gpu
from tests.media.synth import STEP, write
from tests.samples.test_sample import SAMPLES
from vderain import api
from vderain.errors import SourceError
from vderain.frames import DevicePlanes, Frame
from vderain.interfaces import SourceStats
from vderain.machine import has_nvidia_gpu
from vderain.media import open_source
from vderain.media import source as source_module
from vderain.media.frames.decoding import Decoder
from vderain.media.gpu import nvdec
from vderain.options import EncodeOptions, EngineOptions, RunOptions


def frames(path, decoder):
    run = RunOptions(decoder=decoder)
    with closing(open_source(str(path), run=run, encode=EncodeOptions())) as source:
        return [item for item in source if isinstance(item, Frame)], source.stats.notes


def test_the_frames_equal_the_software_decoders_and_a_fallback_is_noted():
    expected, _ = frames(SAMPLES / "rainy_road.mp4", "software")
    found, notes = frames(SAMPLES / "rainy_road.mp4", "nvdec")
    assert [frame.pts for frame in found] == [frame.pts for frame in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.format == other.format
        for a, b in zip(one.planes, other.planes, strict=True):
            np.testing.assert_array_equal(a, b)
    assert all(isinstance(frame.planes, DevicePlanes) == has_nvidia_gpu() for frame in found)
    told = [note for note in notes if note.startswith("NVDEC cannot be used here, software")]
    assert bool(told) != has_nvidia_gpu()


def test_the_decoder_is_that_of_the_gpu_that_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(
        nvdec, "open_container", lambda path, **given: asked.append(given["hwaccel"])
    )
    monkeypatch.setattr(nvdec, "_refusal", lambda *_, **given: "")
    nvdec.open_for("nvdec", str(SAMPLES / "rainy_road.mp4"), None, gpu=1)
    assert [accel.device_id for accel in asked] == [1]


def test_ffmpeg_takes_the_context_after_its_flags_were_set(monkeypatch):
    """Whatever made the context before, and with which flags."""
    order = []
    monkeypatch.setattr(nvdec, "share_context", lambda gpu: order.append(("flags", gpu)))
    monkeypatch.setattr(nvdec, "open_container", lambda path, **given: order.append("FFmpeg"))
    monkeypatch.setattr(nvdec, "_refusal", lambda *_, **given: "")
    nvdec.open_for("nvdec", str(SAMPLES / "rainy_road.mp4"), None, gpu=1)
    assert order == [("flags", 1), "FFmpeg"]


def test_what_nvdec_leaves_to_software_is_opened_for_software(monkeypatch):
    """A decoder for NVDEC has one thread, also where it decodes a profile that NVDEC lacks."""
    opened, for_nvdec = nvdec.open_container, []

    def leaving(path, *, hwaccel=None):
        for_nvdec.append(hwaccel is not None)
        return opened(path)

    monkeypatch.setattr(nvdec, "open_container", leaving)
    found, notes = frames(SAMPLES / "rainy_road.mp4", "nvdec")
    assert len(found) == 100 and not isinstance(found[0].planes, DevicePlanes)
    assert notes == ["NVDEC does not take this h264, software decodes"]
    assert for_nvdec == [True, True, False]


def test_a_decoders_context_that_names_cuda_tells_nothing_of_the_samples(monkeypatch):
    """Before the first image: its pixel format has no planes."""
    opened = nvdec.open_container

    def for_cuda(path, *, hwaccel):
        container = opened(path)
        container.streams.video[0].codec_context.pix_fmt = "cuda"
        return container

    monkeypatch.setattr(nvdec, "open_container", for_cuda)
    monkeypatch.setattr(nvdec, "_refusal", lambda *_, **given: "")
    monkeypatch.setattr(source_module, "stays_in_software", lambda stream: "")
    found, _ = frames(SAMPLES / "rainy_road.mp4", "nvdec")
    assert len(found) == 100


def test_where_the_context_cannot_be_shared_nvdec_decodes_and_its_images_are_copied(monkeypatch):
    opened = nvdec.open_container

    def refusing(path, *, hwaccel):
        if hwaccel.is_hw_owned:
            raise SourceError("Primary context already active with incompatible flags.")
        return opened(path)  # as if it was NVDEC

    monkeypatch.setattr(nvdec, "open_container", refusing)
    monkeypatch.setattr(source_module, "stays_in_software", lambda stream: "")
    found, notes = frames(SAMPLES / "rainy_road.mp4", "nvdec")
    assert len(found) == 100 and not isinstance(found[0].planes, DevicePlanes)
    (note,) = notes
    assert note.startswith("NVDEC's images are copied to the host at once (Primary context")


@pytest.mark.parametrize(
    ("device", "asked", "gpu"),
    [
        ("cuda:1", None, 1),
        ("cuda:1", 0, 0),
        ("cuda", None, None),
        ("auto", 2, 2),
        ("cpu", None, None),
    ],
)
def test_a_run_decodes_on_the_gpu_of_its_engine(monkeypatch, device, asked, gpu):
    def opened(path, *, run, encode):
        assert run.decoder_gpu == gpu
        raise SourceError("seen")

    monkeypatch.setattr(api, "open_source", opened)
    run, engine = RunOptions(decoder="nvdec", decoder_gpu=asked), EngineOptions(device=device)
    with pytest.raises(SourceError, match="seen"):
        api.derain_file("rainy.mp4", "dry.mp4", run=run, engine=engine)


def test_what_no_decoder_opens_is_an_error(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 100)
    for decoder in ("software", "nvdec"):
        with pytest.raises(SourceError, match="is no video that can be read"):
            frames(broken, decoder)


@pytest.mark.parametrize(("on_gpu", "threads"), [(True, "SLICE"), (False, "AUTO")])
def test_the_gpus_decoder_has_all_threads_but_none_for_frames(on_gpu, threads):
    """A thread for a frame would hold a surface, of which there are 32; software, if it follows, has the others."""
    context = SimpleNamespace(is_hwaccel=on_gpu, thread_type="", thread_count=0, flags=0)
    Decoder(SimpleNamespace(codec_context=context), "clip.mp4", SourceStats(), clock=None)
    assert (context.thread_type, context.thread_count) == (threads, 0)


@pytest.mark.parametrize("stay", [True, False])
def test_what_nvdec_leaves_to_software_is_decoded_by_all_threads(monkeypatch, stay):
    """Also where images are copied to the host anyway."""
    opened, for_nvdec = nvdec.open_container, []

    def leaving(path, *, hwaccel=None):
        for_nvdec.append(hwaccel is not None)
        return opened(path)

    monkeypatch.setattr(nvdec, "open_container", leaving)
    container, reason = nvdec.open_for("nvdec", str(SAMPLES / "rainy_road.mp4"), None, stay=stay)
    container.close()
    assert reason == "NVDEC does not take this h264, software decodes"
    assert for_nvdec == [True, True, False]


def test_images_that_nvdec_leaves_to_software_later_are_counted(monkeypatch):
    decode_on_gpu(monkeypatch)
    on_gpu, count = Decoder.decode, itertools.count()

    def decode(self, packet):
        return [
            image if next(count) < 60 else image.frame.reformat(format="yuv420p")
            for image in on_gpu(self, packet)
        ]

    monkeypatch.setattr(Decoder, "decode", decode)
    monkeypatch.setattr(source_module, "open_for", lambda _, path, *a, **k: (av.open(path), ""))
    monkeypatch.setattr(source_module, "stays_in_software", lambda stream: "")
    found, notes = frames(SAMPLES / "rainy_road.mp4", "nvdec")
    assert len(found) == 100
    assert "software decoded 40 of 100 images of this h264, which NVDEC did not take" in notes


class ForNvdec:
    """A container whose images come as NVDEC gives them: cropped on the right and at the bottom alone."""

    def __init__(self, path, size):
        self._container, self._size = av.open(path), size
        stream = self._container.streams.video[0]
        known = stream.codec_context
        context = SimpleNamespace(
            is_hwaccel=True, name="h264", width=known.width, height=known.height
        )
        self._stream = SimpleNamespace(
            codec_context=context,
            disposition=stream.disposition,
            discard=stream.discard,
            frames=stream.frames,
        )
        self.streams = SimpleNamespace(video=[self._stream])

    def decode(self, stream):
        yield GpuFrame(av.VideoFrame(*self._size, "yuv420p"))

    def close(self):
        self._container.close()


@pytest.mark.parametrize(
    ("crop", "size", "told"),
    [
        ("crop_left=8", (64, 48), "NVDEC does not crop this h264 on the left or at the top"),
        ("crop_top=4:crop_bottom=4", (64, 44), "NVDEC does not crop this h264 on the left"),
        ("crop_right=8:crop_bottom=4", (56, 44), ""),
    ],
)
def test_a_video_that_nvdec_would_not_crop_is_decoded_by_software(
    tmp_path, monkeypatch, crop, size, told
):
    """FFmpeg crops images on a GPU on the right and at the bottom alone."""
    path = cropped(tmp_path, crop)
    opened = nvdec.open_container

    def for_nvdec(path, *, hwaccel=None):
        return ForNvdec(path, size) if hwaccel else opened(path)

    monkeypatch.setattr(nvdec, "open_container", for_nvdec)
    container, reason = nvdec.open_for("nvdec", str(path), None)
    assert reason.startswith(told) and bool(reason) == bool(told)
    assert isinstance(container, ForNvdec) != bool(told)
    container.close()


def cropped(folder, crop):
    """H.264 with this crop in its parameter sets."""
    plain = write(folder / "plain.mp4", size=(64, 48), codec="libx264", pts=(0, STEP, 2 * STEP))
    path = folder / "cropped.mp4"
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        stream = source.streams.video[0]
        written = out.add_stream_from_template(stream)
        cut = BitStreamFilterContext(f"h264_metadata={crop}", stream, written)
        for packet in source.demux(stream):
            for done in cut.filter(packet) if packet.size else ():
                done.stream = written
                out.mux(done)
    return path
