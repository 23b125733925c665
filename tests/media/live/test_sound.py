"""The sound of a camera for outlets: as the camera sends it, and as AAC where an outlet takes nothing else."""

from fractions import Fraction

import av
import numpy as np
import pytest

from vderain.media.live.encode import LiveAudio

RATE = 16_000


@pytest.fixture
def camera(tmp_path):
    """A second of G.711 sound as cameras send it: the stream and its packets."""
    path = tmp_path / "sound.wav"
    tone = (8000 * np.sin(np.arange(RATE) / 5)).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_mulaw", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    with av.open(str(path)) as container:
        yield container.streams.audio[0], [p for p in container.demux(audio=0) if p.size]


def sent(sound, packets, offset_s=Fraction(0)):
    return [each for packet in packets for each in sound.packets(packet, offset_s)]


def test_sound_is_sent_on_unchanged_and_as_aac(camera):
    stream, packets = camera
    sound = LiveAudio(stream, transcode=True)
    found = sent(sound, packets)
    unchanged = [each.payload for each in found if each.kind == "audio"]
    assert [each.data for each in unchanged] == [bytes(packet) for packet in packets]
    coded = [each for each in found if each.kind == "aac"]
    assert len(coded) >= RATE // 1024 - 2 and sound.failures == 0
    assert sound.aac_stream.codec_context.name == "aac" and sound.codec == "pcm_mulaw"
    sound.close()


def test_times_of_sound_move_with_those_of_the_video(camera):
    stream, packets = camera
    plain, moved = (
        sent(LiveAudio(stream, transcode=True), packets, offset) for offset in (0, Fraction(5, 2))
    )
    assert {each.kind for each in plain} == {"audio", "aac"}
    for one, other in zip(plain, moved, strict=True):
        assert one.kind == other.kind and other.time_s - one.time_s == pytest.approx(2.5)


def test_sound_without_an_outlet_that_needs_aac_is_not_decoded(camera):
    stream, packets = camera
    sound = LiveAudio(stream, transcode=False)
    assert sound.aac_stream is None
    assert {each.kind for each in sent(sound, packets)} == {"audio"}


def test_sound_that_cannot_be_decoded_is_counted_and_still_sent_on(tmp_path):
    path = tmp_path / "sound.mka"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        stream.codec_context.format = "s16"
        noise = np.random.default_rng(0).integers(-9000, 9000, (1, RATE), np.int16)
        frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    with av.open(str(path)) as container:
        sound = LiveAudio(container.streams.audio[0], transcode=True)
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        damaged = av.Packet(b"\xff\xf8 no sound" * 20)
        damaged.pts, damaged.time_base = packets[0].pts, packets[0].time_base
        found = sent(sound, [damaged])
        assert [each.kind for each in found] == ["audio"] and sound.failures == 1
        assert "aac" in {each.kind for each in sent(sound, packets)} and sound.failures == 1
