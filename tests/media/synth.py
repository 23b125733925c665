"""Small media made in the test, and what tests look at in them."""

from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vderain.media import open_sink, open_source
from vderain.options import EncodeOptions, RunOptions

UNIT = Fraction(1, 90_000)
STEP = 3600  # 25 frames per second in UNIT
QUIET = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"preset": "12"}}
LOSSLESS = {"qp": "0", "preset": "ultrafast"}


@dataclass
class Video:
    """What ``write`` puts into a file; times of frames are in ``time_base`` units."""

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    size: tuple[int, int] = (64, 48)
    pts: tuple[int, ...] = tuple(range(0, 10 * STEP, STEP))
    time_base: Fraction = UNIT
    rate: int = 25
    options: dict = field(default_factory=dict)
    attributes: dict = field(default_factory=dict)  # of the encoder's context
    rotation: int | None = None
    languages: tuple[str, ...] = ()  # one audio track each
    subtitle: str | None = None
    data: int = 0  # at least so many bytes in each sample of a data track; 0 for no track
    attachment: bool = False
    chapters: bool = False
    metadata: dict = field(default_factory=dict)
    container: dict = field(default_factory=dict)
    format: str | None = None


def write(path, video=None, **changes):
    """Write a clip; returns its path as a string."""
    video = video or Video(**changes)
    with av.open(str(path), "w", format=video.format, container_options=video.container) as output:
        output.metadata.update(video.metadata)
        stream = _video_stream(output, video)
        others = _other_streams(output, video)
        if video.attachment:
            output.add_attachment("font.ttf", "font/ttf", b"glyphs" * 5)
        if video.chapters:
            output.set_chapters([_chapter(1, 0, 200, "one"), _chapter(2, 200, 400, "two")])
        output.start_encoding()
        for index, pts in enumerate(video.pts):
            output.mux(stream.encode(painted(video, index, pts)))
            for other in others:
                other.step(output, index)
        output.mux(stream.encode(None))
        for other in others:
            other.end(output)
    return str(path)


def _chapter(number, start, end, title):
    return {
        "id": number, "start": start, "end": end, "time_base": Fraction(1, 1000),
        "metadata": {"title": title},
    }  # fmt: skip


def noisy(path, numbers):
    """The clip with noise in the second half of these packets of its video, which FFmpeg makes up for."""
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(Path(path).read_bytes())
    for place, size in (places[number] for number in numbers):
        start = place + size // 2
        content[start : place + size] = np.random.default_rng(1).bytes(place + size - start)
    Path(path).write_bytes(content)
    return path


def _video_stream(output, video):
    stream = output.add_stream(video.codec, rate=video.rate)
    stream.width, stream.height = video.size
    stream.pix_fmt = video.pix_fmt
    context = stream.codec_context
    context.time_base = video.time_base
    context.options = QUIET.get(video.codec, {}) | video.options
    if video.codec == "libx265" and len(video.pts) <= 2:
        context.max_b_frames = 0  # x265 4.2 leaves the decoding time unset before reordering begins
    for name, value in video.attributes.items():
        setattr(context, name, value)
    if video.rotation is not None:
        stream.set_display_rotation(video.rotation)
    stream.metadata["language"] = "eng"
    return stream


def _other_streams(output, video):
    others = [_Sound(output, language, seed) for seed, language in enumerate(video.languages)]
    if video.subtitle:
        others.append(_Notes(output.add_mux_stream(video.subtitle), _subtitle_text(video.subtitle)))
        others[-1].stream.metadata["language"] = "eng"
    if video.data:
        others.append(
            _Notes(
                output.add_data_stream("bin_data"),
                lambda index: (b"GPS%d" % index).ljust(video.data),
            )
        )
    return others


def _subtitle_text(codec):
    if codec == "mov_text":
        return lambda index: b"\0\5Text%d" % index
    if codec == "ass":
        return lambda index: b"%d,0,Default,,0,0,0,,Text%d" % (index, index)
    return lambda index: b"Text%d" % index


class _Sound:
    """Noise, 1/25 s for every frame."""

    def __init__(self, output, language, seed):
        self.stream = output.add_stream("aac", rate=48_000)
        self.stream.layout = "mono"
        self.stream.metadata["language"] = language
        self._random = np.random.default_rng(seed)

    def step(self, output, index):
        samples = self._random.normal(0, 0.1, (1, 1920)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, index * 1920, Fraction(1, 48_000)
        output.mux(self.stream.encode(frame))

    def end(self, output):
        output.mux(self.stream.encode(None))


class _Notes:
    """One packet of text or data for every frame."""

    def __init__(self, stream, text):
        self.stream = stream
        self.stream.time_base = Fraction(1, 1000)
        self._text = text

    def step(self, output, index):
        packet = av.Packet(self._text(index))
        packet.stream, packet.time_base = self.stream, Fraction(1, 1000)
        packet.pts = packet.dts = index * 40
        packet.duration = 40
        packet.is_keyframe = True
        output.mux(packet)

    def end(self, output):
        pass


def painted(video, index, pts):
    """A soft pattern that moves by a pixel per frame; the same for the same arguments."""
    image = av.VideoFrame(*video.size, video.pix_fmt)
    bits = max(component.bits for component in image.format.components)
    for number, plane in enumerate(image.planes):
        samples = np.frombuffer(plane, np.uint8 if bits == 8 else np.uint16)
        rows = samples.reshape(-1, plane.line_size // samples.itemsize)
        height, width = rows.shape
        across = 0.45 + 0.2 * np.sin((np.arange(width) + index) / 7 + number)
        wave = across + 0.1 * np.cos(np.arange(height) / 5)[:, None]
        rows[:] = (wave * (1 << bits)).astype(samples.dtype)
    image.pts, image.time_base = pts, video.time_base
    return image


def process(source_path, sink_path, *, run=None, change=lambda item: item, **encode):
    """Carry a clip from a source to a sink; returns (source statistics, sink report)."""
    options = EncodeOptions(**encode)
    source = open_source(str(source_path), run=run or RunOptions(), encode=options)
    try:
        sink = open_sink(str(sink_path), source, options)
        try:
            for item in source:
                sink.write(change(item))
            return source.stats, sink.finish()
        except BaseException:
            sink.abort()
            raise
    finally:
        source.close()


def info(path):
    """What is known of an input after its first frames, interlaced and HDR ones too."""
    accept = EncodeOptions(hdr="keep", interlaced="deinterlace")
    with closing(open_source(str(path), run=RunOptions(), encode=accept)) as source:
        return source.info


def decoded_frames(path):
    """All decoded frames of the first video stream."""
    with av.open(str(path)) as container:
        return list(container.decode(container.streams.video[0]))


def times(path):
    """Presentation times of the first video stream in seconds, as fractions."""
    return [image.pts * image.time_base for image in decoded_frames(path)]


def payloads(path, index):
    """The packets of a stream as bytes."""
    with av.open(str(path)) as container:
        stream = container.streams[index]
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


def packet_times(path, index):
    """Presentation times of a stream's packets in seconds, as fractions."""
    with av.open(str(path)) as container:
        stream = container.streams[index]
        return [
            packet.pts * packet.time_base
            for packet in container.demux(stream)
            if packet.size and packet.pts is not None
        ]


def streams(path):
    """(type, language, disposition) of every stream."""
    with av.open(str(path)) as container:
        return [
            (stream.type, stream.metadata.get("language"), int(stream.disposition))
            for stream in container.streams
        ]


def samples(image, index=0):
    """One plane of a decoded image as an array (H, W)."""
    plane = image.planes[index]
    bits = max(component.bits for component in image.format.components)
    flat = np.frombuffer(plane, np.uint8 if bits == 8 else np.uint16)
    return flat.reshape(-1, plane.line_size // flat.itemsize)[: plane.height, : plane.width]
