"""Sound comes out as it went in, or lies next to the output and is a loss."""

import json
import struct
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media.synth import Video, _video_stream, packet_times, painted, payloads


def clip(path, codec, rate=48_000, layout="stereo", bit_rate=64_000):
    """Half a second of video with noise of this codec."""
    image = "mpeg4" if path.suffix == ".avi" else "libx264"
    video = Video(image, pts=tuple(range(12)), time_base=Fraction(1, 25))
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        image = _video_stream(output, video)
        sound = output.add_stream(codec, rate=rate)
        sound.layout = layout
        if bit_rate:
            sound.codec_context.bit_rate = bit_rate
        channels, step = sound.codec_context.layout.nb_channels, rate // 25
        output.start_encoding()
        for index, pts in enumerate(video.pts):
            output.mux(image.encode(painted(video, index, pts)))
            noise = random.normal(0, 3000, (1, step * channels)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(noise, format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, index * step, Fraction(1, rate)
            output.mux(sound.encode(frame))
        output.mux(image.encode(None))
        output.mux(sound.encode(None))
    return path


def sound_of(path):
    """Kind and codec of the second track, its rate and channels."""
    with av.open(str(path)) as container:
        context = container.streams[1].codec_context
        kind = container.streams[1].type
        return kind, context.codec.canonical_name, context.sample_rate, context.layout.nb_channels


MADE = [
    ("in.mov", "pcm_alaw", {"rate": 8000, "layout": "mono"}),
    ("in.mov", "libopencore_amrnb", {"rate": 8000, "layout": "mono", "bit_rate": 7950}),
    ("in.avi", "adpcm_ms", {}),
    ("in.avi", "adpcm_ima_wav", {}),
    ("in.avi", "wmav2", {}),
]


@pytest.mark.parametrize(("name", "codec", "about"), MADE, ids=[made[1] for made in MADE])
def test_sound_without_a_name_in_matroska_passes_with_the_tag_of_wav(user, name, codec, about):
    source = clip(user.folder / name, codec, **about)
    done, output = user.run(name, "out.mkv")
    assert (done.code, done.losses) == (0, [])
    assert sound_of(output) == sound_of(source)
    assert payloads(output, 1) == payloads(source, 1)
    assert list(user.folder.glob("out.mkv.*")) == []


def test_a_batch_keeps_such_sound_too(user):
    source = clip(user.folder / "in.avi", "adpcm_ms")
    done, folder = user.batch("in.avi")
    assert done.code == 0, done.said
    assert sound_of(folder / "in.avi.mkv") == sound_of(source)
    assert payloads(folder / "in.avi.mkv", 1) == payloads(source, 1)


def test_the_tracks_of_such_a_file_have_a_right_checksum(user):
    content = user.run("g711.mkv", "out.mkv")[1].read_bytes()
    start = content.index(b"\x16\x54\xae\x6b", 200) + 4  # Tracks, behind the place of the index
    length = 9 - content[start].bit_length()
    size = int.from_bytes(content[start : start + length], "big") & ((1 << 7 * length) - 1)
    tracks = content[start + length : start + length + size]
    assert tracks[:2] == b"\xbf\x84" and b"A_MS/ACM" in tracks
    assert zlib.crc32(tracks[6:]).to_bytes(4, "little") == tracks[2:6]


def test_g711_stays_in_matroska(user):
    done, output = user.run("g711.mkv", "out.mkv")
    assert (done.code, done.losses) == (0, [])
    assert sound_of(output) == ("audio", "pcm_mulaw", 8000, 1)
    assert payloads(output, 1) == payloads(user.file("g711.mkv"), 1)
    assert packet_times(output, 1) == packet_times(user.file("g711.mkv"), 1)


def test_flac_lies_next_to_a_transport_stream_that_would_make_data_of_it(user):
    done, output = user.run("flac.mkv", "out.ts")
    kept = user.folder / "out.ts.1.flac.bin"
    assert done.code == 3
    assert len(done.losses) == 1 and kept.name in done.losses[0] and "data" in done.losses[0]
    assert kept.read_bytes() == b"".join(payloads(user.file("flac.mkv"), 1))
    with kept.with_name(kept.name + ".jsonl").open() as lines:
        assert json.loads(next(lines))["codec"] == "flac"
    with av.open(str(output)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize(
    ("codec", "name"), [("pcm_s16le", "in.mkv"), ("alac", "in.mp4"), ("adpcm_ms", "in.avi")]
)
def test_sound_that_no_player_finds_in_a_transport_stream_lies_next_to_it(user, codec, name):
    clip(user.folder / name, codec)
    done, _ = user.run(name, "out.ts")
    assert done.code == 3
    assert (user.folder / f"out.ts.1.{codec}.bin").exists()


@pytest.mark.parametrize("codec", ["mp2", "ac3", "libopus", "aac"])
def test_sound_that_a_transport_stream_really_holds_is_in_it(user, codec):
    source = clip(user.folder / "in.mkv", codec)
    done, output = user.run("in.mkv", "out.ts")
    assert (done.code, done.losses) == (0, [])
    assert sound_of(output) == sound_of(source)


def test_info_says_what_a_container_of_the_same_kind_holds(user):
    (sound,) = user.info("g711.mkv")["tracks"]
    assert sound["copied"] and "pcm_mulaw" in sound["track"]


def with_packets(path, codec, packets, seconds):
    """Video with packets of mono sound, given as (samples, payload), and the header that their encoder made."""
    video = Video(pts=tuple(range(25 * seconds)), time_base=Fraction(1, 25))
    with av.open(str(path), "w") as output:
        image = _video_stream(output, video)
        sound = output.add_stream(codec, rate=48_000)
        sound.layout = "mono"
        output.start_encoding()
        for index, pts in enumerate(video.pts):
            output.mux(image.encode(painted(video, index, pts)))
        output.mux(image.encode(None))
        at = 0
        for count, payload in packets:
            packet = av.Packet(payload)
            packet.stream, packet.time_base = sound, Fraction(1, 48_000)
            packet.pts = packet.dts = at
            packet.duration = count
            output.mux(packet)
            at += count
    return path


def test_packets_shorter_than_the_unit_of_matroska_keep_their_times(user):
    """As those of TrueHD, of which two may have the same time there."""
    packets = [(24, bytes((index % 251, 1)) * 24) for index in range(960)]
    source = with_packets(user.folder / "in.mkv", "pcm_s16le", packets, seconds=1)
    done, output = user.run("in.mkv", "out.mkv")
    assert (done.code, done.losses, done.lines("note")) == (0, [], [])
    assert packet_times(output, 1) == packet_times(source, 1)


def tta(samples):
    """Silence as (samples, payload), the last one with as many samples as the others, as some muxers write it."""
    context = av.CodecContext.create("tta", "w")
    context.sample_rate, context.layout, context.format = 48_000, "mono", "u8"
    context.open()
    size, payloads = context.frame_size, []
    counts = [min(size, samples - begin) for begin in range(0, samples, size)]
    for index, count in enumerate(counts):
        silence = np.full((1, count), 128, np.uint8)
        frame = av.AudioFrame.from_ndarray(silence, format="u8", layout="mono")
        frame.sample_rate, frame.pts = 48_000, index * size
        payloads += map(bytes, context.encode(frame))
    payloads += map(bytes, context.encode(None))
    return [(size, payload) for payload in payloads]


def test_the_last_packet_of_tta_is_as_long_as_it_was(user):
    """FFmpeg takes the number of samples from the length of the file, and decodes the last packet by it."""
    source = with_packets(user.folder / "in.mkv", "tta", tta(96_000), seconds=2)
    content = bytearray(source.read_bytes())
    place = content.index(b"\x44\x89\x88") + 3  # the length of the file
    content[place : place + 8] = struct.pack(">d", 2000.0)
    source.write_bytes(content)
    done, output = user.run("in.mkv", "out.mkv")
    assert (done.code, done.losses) == (0, [])
    assert length_s(output) == length_s(source) == 2


def length_s(path):
    """Of the file."""
    with av.open(str(path)) as container:
        return container.duration / av.time_base


@pytest.mark.parametrize("name", ["out.m2ts", "out.mts"])
def test_sound_of_blu_ray_stays_in_its_transport_stream(user, name):
    source = clip(user.folder / "in.m2ts", "pcm_bluray", bit_rate=None)
    (track,) = user.info("in.m2ts")["tracks"]
    assert track["copied"]
    done, output = user.run("in.m2ts", name)
    assert (done.code, done.losses) == (0, []), done.said
    assert sound_of(output)[:2] == ("audio", "pcm_bluray")
    assert payloads(output, 1) == payloads(source, 1)
    content = output.read_bytes()
    assert len(content) % 192 == 0 and set(content[4::192]) == {0x47}


@pytest.mark.parametrize("codec", ["adpcm_ms", "adpcm_ima_wav", "pcm_s16le", "mp2"])
def test_sound_in_avi_lasts_as_long_as_it_did(user, codec):
    source = clip(user.folder / "in.avi", codec, bit_rate=32_000)
    done, output = user.run("in.avi", "out.avi")
    assert (done.code, done.losses) == (0, [])
    assert packet_times(output, 1) == packet_times(source, 1)
    assert payloads(output, 1) == payloads(source, 1)


def test_sound_in_avi_that_lasts_longer_than_it_did_is_a_loss(user, monkeypatch):
    monkeypatch.setattr("vderain.media.carry.tracks.clocks_of", lambda container: {})
    clip(user.folder / "in.avi", "adpcm_ms", bit_rate=600_000)
    done, _ = user.run("in.avi", "out.avi")
    assert any("audio adpcm_ms lasts" in loss for loss in done.losses), done.said


def test_the_name_of_a_camera_in_avi_is_a_loss(user):
    source = clip(user.folder / "in.avi", "pcm_s16le")
    content = source.read_bytes()
    at = content.index(b"ISFT") + 8
    source.write_bytes(content[:at] + b"CanonMV" + content[at + 7 :])
    done, _ = user.run("in.avi", "out.avi")
    assert done.losses == ["tags: software: not in the output"]
