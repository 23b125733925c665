"""One encoder for all outlets of a camera: what they get, and what happens where it fails or is too slow."""

import threading
import time
from dataclasses import replace
from fractions import Fraction

import pytest

from tests.fakes import GRAY, gray_frame
from tests.live.fakes import until
from tests.live.test_outputs import FakeOutlet, payloads
from vderain.errors import SinkError
from vderain.live import broadcast as module
from vderain.live.broadcast import Broadcast
from vderain.live.states import RetryOptions
from vderain.live.stats import CameraStats
from vderain.media.live.types import EncodedPacket, LiveFrame, Streams

RATE = Fraction(25)


class FakeEncoder:
    """Packets hold the first sample of their frame; fails or waits as a test asks for."""

    def __init__(self, frame, pixel_shape):
        self.format, self.pixel_shape = frame.format, pixel_shape
        self.stream = object()
        self.notes = [f"{frame.format.width} wide"]
        self.keys = []
        self.error = None
        self.go = threading.Event()
        self.go.set()
        self.encoding = threading.Event()
        self.closed = False

    def encode(self, frame, time_s, *, key=False):
        self.encoding.set()
        self.go.wait(10)
        if self.error is not None:
            raise self.error
        self.keys.append(key)
        return [EncodedPacket("video", int(frame.planes[0][0, 0]), float(time_s), key)]

    def close(self):
        self.closed = True


@pytest.fixture
def camera():
    """A broadcast to two outlets, the encoders it made, its outlets and its counters."""
    encoders, outlets, stats = [], [], CameraStats()

    def make_encoder(frame, rate, pixel_shape):
        assert rate == RATE
        encoders.append(FakeEncoder(frame, pixel_shape))
        return encoders[-1]

    def make_outlet():
        outlets.append(FakeOutlet())
        return outlets[-1]

    retry = RetryOptions(first_s=0.1, max_s=0.1)
    made = Broadcast("gate", [make_outlet] * 2, make_encoder, stats, retry, timeout_s=5.0)
    made.start()
    yield made, encoders, outlets, stats
    for encoder in encoders:
        encoder.go.set()
    made.stop()


def put(broadcast, level, **changes):
    fmt = changes.pop("format", GRAY)
    frame = replace(gray_frame(level, level), format=fmt)
    broadcast.put(LiveFrame(frame, time.monotonic(), time_s=Fraction(level, 25), **changes), RATE)


def streams_of(outlet):
    return [item.video for item in outlet.got if isinstance(item, Streams)]


def test_every_outlet_gets_the_stream_and_all_packets_of_one_encoder(camera):
    broadcast, encoders, outlets, stats = camera
    for level in (10, 20, 30):
        put(broadcast, level)
        assert until(lambda level=level: all(level in payloads(outlet) for outlet in outlets))
    (encoder,) = encoders
    assert [payloads(outlet) for outlet in outlets] == [[10, 20, 30]] * 2
    assert [streams_of(outlet) for outlet in outlets] == [[encoder.stream]] * 2
    assert encoder.keys == [True, False, False]
    assert list(broadcast.notes) == ["6 wide"]
    assert until(lambda: stats.snapshot().frames == {"emitted": 3})
    assert stats.snapshot().drops == {}


@pytest.mark.parametrize("change", ["format", "pixel shape"])
def test_a_new_format_begins_a_new_stream_with_a_keyframe(camera, change):
    broadcast, encoders, (outlet, _), _ = camera
    put(broadcast, 10)
    assert until(lambda: payloads(outlet) == [10])
    other = replace(GRAY, full_range=not GRAY.full_range)
    changes = {"format": other} if change == "format" else {"pixel_shape": Fraction(4, 3)}
    put(broadcast, 20, **changes)
    assert until(lambda: payloads(outlet) == [10, 20])
    first, second = encoders
    assert first.closed and not second.closed
    assert streams_of(outlet) == [first.stream, second.stream] and second.keys == [True]
    assert (second.format, second.pixel_shape) == (
        changes.get("format", GRAY),
        changes.get("pixel_shape", 1),
    )


def test_the_oldest_frames_are_dropped_where_the_encoder_is_too_slow(camera):
    broadcast, encoders, (outlet, _), stats = camera
    put(broadcast, 0)
    assert until(lambda: encoders and payloads(outlet) == [0])
    (encoder,) = encoders
    encoder.go.clear()
    encoder.encoding.clear()
    put(broadcast, 1)
    assert encoder.encoding.wait(10)  # it holds this frame
    for level in range(2, 7):
        put(broadcast, level)
    assert broadcast.waiting == 3 and stats.snapshot().drops == {"encoder": 2}
    encoder.go.set()
    assert until(lambda: payloads(outlet) == [0, 1, 4, 5, 6])


@pytest.mark.parametrize("error", [SinkError("libx264 failed: no memory"), ValueError("odd")])
def test_an_encoder_that_fails_is_made_again_after_a_while(camera, monkeypatch, caplog, error):
    monkeypatch.setattr(module, "_ENCODER_RETRY_S", 3600.0)
    broadcast, encoders, (outlet, _), stats = camera
    put(broadcast, 1)
    assert until(lambda: payloads(outlet) == [1])
    encoders[0].error = error
    put(broadcast, 2)
    put(broadcast, 3)
    assert until(lambda: stats.snapshot().drops == {"encoder": 2})  # one fails, one comes too early
    assert encoders[0].closed and len(encoders) == 1 and str(error) in caplog.text
    broadcast._retry_s = 0.0  # the time has passed
    put(broadcast, 4)
    assert until(lambda: payloads(outlet) == [1, 4])
    assert len(encoders) == 2 and encoders[1].keys == [True]


def test_an_outlet_that_was_away_gets_a_keyframe(camera):
    broadcast, encoders, (outlet, _), _ = camera
    for level in (1, 2):
        put(broadcast, level)
        assert until(lambda level=level: level in payloads(outlet))
    broadcast.workers[0]._ask_key()
    put(broadcast, 3)
    assert until(lambda: payloads(outlet) == [1, 2, 3])
    assert encoders[0].keys == [True, False, True]


def test_the_waiting_frames_are_encoded_before_the_end(camera):
    broadcast, encoders, outlets, _ = camera
    put(broadcast, 0)
    assert until(lambda: encoders and encoders[0].encoding.is_set())
    encoders[0].go.clear()
    for level in (1, 2):
        put(broadcast, level)
    threading.Timer(0.2, encoders[0].go.set).start()
    broadcast.stop()
    for outlet in outlets:
        assert payloads(outlet) == [0, 1, 2] and outlet.got[-2:] == ["closed", "finished"]
    assert encoders[0].closed


class FakeSound:
    signature = ("aac", 48_000)
    stream = aac_stream = "sound"

    def packets(self, packet, offset_s):
        yield EncodedPacket("audio", packet, float(offset_s))


def test_sound_joins_the_stream_and_is_sent_on(camera):
    broadcast, _, (outlet, _), _ = camera
    broadcast.sound_packet("too early", Fraction(0))
    put(broadcast, 1)
    assert until(lambda: payloads(outlet) == [1])
    broadcast.sound(FakeSound())
    put(broadcast, 2)
    assert until(lambda: 2 in payloads(outlet))
    broadcast.sound_packet("beep", Fraction(1, 10))
    assert until(lambda: payloads(outlet) == [1, 2, "beep"])
    assert [s.audio for s in outlet.got if isinstance(s, Streams)] == [None, "sound"]
