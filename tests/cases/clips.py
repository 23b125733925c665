"""Small files whose clocks do what cameras' do, and what came out of them, packet by packet.

Images and sound are encoded once and written at the times that a test asks for.
"""

import struct
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache

import av
import numpy as np

RATE = 25
SIZE = (64, 48)
UNIT = Fraction(1, 90_000)
SYNC_S = Fraction(20, 1000)
_ROUNDING_S = Fraction(2, 1000)  # of times in milliseconds
_GOP = 10
_CELL = 16  # pixels of one bit of a frame's number
_SOUND_RATE = 48_000
_SAMPLES = 1152  # of a packet of sound
_CLUSTER = b"\x1f\x43\xb6\x75"  # where the packets of a Matroska file begin


@dataclass(frozen=True)
class Part:
    """Frames and sound in one piece: ``at_s`` is where its clock begins, ``sound_s`` how much later its sound."""

    frames: int = 20
    at_s: Fraction = Fraction(0)
    sound_s: Fraction = Fraction(0)
    tracks: int = 1  # with sound
    first: int = 0  # number of its first frame
    b_frames: int = 2
    missing: tuple[int, ...] = ()  # frames left out
    double: tuple[int, ...] = ()  # frames that have the time of the one before

    @property
    def shown(self):
        """How many frames there are."""
        return self.frames - len(self.missing)

    @property
    def sounds(self):
        """Packets of sound on each track."""
        length_s = Fraction(self.frames, RATE) - self.sound_s
        return max(1, round(length_s * _SOUND_RATE / _SAMPLES))


@dataclass
class Content:
    """Times in seconds by track, in the order of time, and the numbers that frames show."""

    video: list = field(default_factory=list)
    numbers: list = field(default_factory=list)
    sounds: list = field(default_factory=list)


def write(path, part, metadata=None, **options):
    """Write one part as one file; returns its path."""
    with av.open(str(path), "w", container_options=options) as output:
        output.metadata.update(metadata or {})
        video = output.add_stream("libx264", rate=RATE)
        _dress(video.codec_context, part.b_frames)
        sounds = [_sound_stream(output) for _ in range(part.tracks)]
        output.start_encoding()
        packets = [*_video_packets(part, video), *_sound_packets(part, sounds)]
        for _, packet in sorted(packets, key=lambda timed: timed[0]):
            output.mux(packet)
    return path


def joined(path, *parts, **options):
    """Write parts one after the other into one file, as a recorder does whose clock is set between them."""
    pieces = []
    for number, part in enumerate(parts):
        piece = write(path.with_name(f"{number}-{path.name}"), part, **_joinable(path, options))
        content = piece.read_bytes()
        if path.suffix in (".mp4", ".mov"):
            content = _fragments_at(content, part.at_s)
        piece.unlink()
        pieces.append(content if not number else content[_body(path, content) :])
    path.write_bytes(b"".join(pieces))
    return path


def playlist(folder, *parts):
    """Write an HLS playlist whose segments are these parts; returns its path."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:4", "#EXT-X-PLAYLIST-TYPE:VOD"]
    for number, part in enumerate(parts):
        write(folder / f"part{number}.ts", part, **_joinable(folder / "part.ts", {}))
        lines += ["#EXT-X-DISCONTINUITY"] if number else []
        lines += [f"#EXTINF:{part.frames / RATE:.3f},", f"part{number}.ts"]
    path = folder / "rainy.m3u8"
    path.write_text("\n".join([*lines, "#EXT-X-ENDLIST"]) + "\n")
    return path


def _joinable(path, options):
    if path.suffix == ".mkv":
        return {"live": "1", "avoid_negative_ts": "disabled", **options}
    if path.suffix in (".mp4", ".mov"):
        return {"movflags": "frag_keyframe+empty_moov+default_base_moof+frag_discont", **options}
    return {"mpegts_copyts": "1", "muxdelay": "0", **options}


def _body(path, content):
    """Where the packets of a file begin, behind its header."""
    if path.suffix == ".mkv":
        return content.index(_CLUSTER)
    if path.suffix in (".mp4", ".mov"):
        return content.index(b"moof") - 4
    return 0


def _fragments_at(content, at_s):
    """FFmpeg lets fragments begin at zero; this moves them to where the clock of a recorder is."""
    changed, place = bytearray(content), 0
    while (place := content.find(b"tfdt", place + 1)) >= 0:
        track = struct.unpack_from(">I", content, content.rindex(b"tfhd", 0, place) + 8)[0]
        (time,) = struct.unpack_from(">Q", content, place + 8)
        unit = UNIT if track == 1 else Fraction(1, _SOUND_RATE)
        struct.pack_into(">Q", changed, place + 8, time + round(at_s / unit))
    return bytes(changed)


def _dress(context, b_frames):
    context.width, context.height = SIZE
    context.pix_fmt, context.time_base = "yuv420p", UNIT
    context.options = {
        **{"preset": "ultrafast", "bf": str(b_frames), "b-adapt": "0", "g": str(_GOP)},
        **{"x264-params": "open-gop=0:scenecut=0:b-adapt=0", "qp": "20"},
    }


def _sound_stream(output):
    stream = output.add_stream("mp2", rate=_SOUND_RATE)
    stream.layout = "mono"
    return stream


@cache
def _encoded(frames, first, b_frames):
    """(pts, dts, is a keyframe, payload) of every packet; times in frames."""
    context = av.CodecContext.create("libx264", "w")
    _dress(context, b_frames)
    context.framerate, context.time_base = Fraction(RATE), Fraction(1, RATE)
    found = []
    for index in range(frames):
        image = av.VideoFrame.from_ndarray(_numbered(first + index), format="gray")
        image = image.reformat(format="yuv420p")
        image.pts, image.time_base = index, Fraction(1, RATE)
        found += context.encode(image)
    found += context.encode(None)
    return [(p.pts, p.dts, p.is_keyframe, bytes(p)) for p in found]


def _numbered(number):
    """An image whose blocks are the bits of a number."""
    bits = [(number >> bit) & 1 for bit in range(12)]
    cells = np.array(bits, np.uint8).reshape(3, 4) * 140 + 60
    return np.kron(cells, np.ones((_CELL, _CELL), np.uint8))


def _number_of(image):
    plane = np.frombuffer(image.planes[0], np.uint8).reshape(-1, image.planes[0].line_size)
    cells = plane[_CELL // 2 : SIZE[1] : _CELL, _CELL // 2 : SIZE[0] : _CELL]
    return int(sum(int(cell > 128) << bit for bit, cell in enumerate(cells.ravel())))


def _video_packets(part, stream):
    step = round(1 / (UNIT * RATE))
    begin = round(part.at_s / UNIT)
    kept = [index for index in range(part.frames) if index not in part.missing]
    for pts, dts, is_key, payload in _encoded(len(kept), part.first, part.b_frames):
        packet = av.Packet(payload)
        packet.stream, packet.time_base, packet.is_keyframe = stream, UNIT, is_key
        packet.duration = step
        late = kept[pts] - (1 if pts and kept[pts] in part.double else 0)
        packet.pts = begin + late * step
        early = (kept[dts] if dts >= 0 else dts) - bool(part.double)
        packet.dts = begin + early * step
        yield packet.dts * UNIT, packet


@cache
def _noise(seed, packets):
    context = av.CodecContext.create("mp2", "w")
    context.sample_rate, context.layout, context.format = _SOUND_RATE, "mono", "s16"
    random, found = np.random.default_rng(seed), []
    for index in range(packets):
        samples = random.normal(0, 2000, (1, _SAMPLES)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts = _SOUND_RATE, index * _SAMPLES
        found += [bytes(packet) for packet in context.encode(frame)]
    return found


def _sound_packets(part, streams):
    unit = Fraction(1, _SOUND_RATE)
    for seed, stream in enumerate(streams):
        begin = round((part.at_s + part.sound_s) / unit)
        for index, payload in enumerate(_noise(seed, part.sounds)):
            packet = av.Packet(payload)
            packet.stream, packet.time_base, packet.is_keyframe = stream, unit, True
            packet.pts = packet.dts = begin + index * _SAMPLES
            packet.duration = _SAMPLES
            yield packet.dts * unit, packet


def content(path):
    """What a file shows and plays."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    shown = [frame.pts * frame.time_base for frame in frames]
    return Content(shown, [_number_of(frame) for frame in frames], _packet_times(path)[1])


def _packet_times(path):
    """Times of the packets of the video, and of each track of sound, as they come."""
    with av.open(str(path)) as container:
        video, sounds = [], {stream.index: [] for stream in container.streams.audio}
        for packet in container.demux():
            times = sounds.get(packet.stream.index, video)
            if packet.size:
                times.append(packet.pts * packet.time_base)
    return video, list(sounds.values())


def assert_kept(source, output, *parts):
    """All frames and sound are there, in order and in sync.

    Within each part they are as far apart as they were, sound to 20 ms; no frame is hidden before zero.
    """
    before, after = _sent(source, parts), content(output)
    assert after.numbers == list(range(sum(part.shown for part in parts)))
    assert [len(track) for track in after.sounds] == [len(track) for track in before.sounds]
    assert after.video == sorted(after.video)
    assert after.video[0] >= 0
    frames, sounds = 0, 0
    for part in parts:
        moved = _moved(before.video, after.video, frames, part.shown)
        assert max(moved) - min(moved) <= _ROUNDING_S
        for one, other in zip(before.sounds, after.sounds, strict=True):
            moved += _moved(one, other, sounds, part.sounds)
        assert max(moved) - min(moved) <= SYNC_S
        frames, sounds = frames + part.shown, sounds + part.sounds


def _sent(source, parts):
    """What the packets of a file hold, those of each part in the order of its images."""
    times, sounds = _packet_times(source)
    found = Content(sounds=sounds)
    for part in parts:
        begun = len(found.video)
        found.video += sorted(times[begun : begun + part.shown])
    return found


def _moved(before, after, start, count):
    span = slice(start, start + count)
    return [new - old for old, new in zip(before[span], after[span], strict=True)]
