import threading

import pytest

from tests.live.fakes import until
from vderain.errors import SinkError
from vderain.live.outputs import OutletWorker
from vderain.live.states import RetryOptions, State
from vderain.live.stats import CameraStats
from vderain.media.live.types import EncodedPacket, Streams


class FakeOutlet:
    """Remembers what it got; fails or hangs when told to."""

    name = "fake"
    is_network = True
    confirmed = True
    notes = ()

    def __init__(self):
        self.got = []
        self.fail = False
        self.hang = threading.Event()
        self.writing = threading.Event()

    def open(self, streams):
        if self.fail:
            raise SinkError("fake: no answer")
        self.got.append(streams)

    def write(self, packet):
        self.writing.set()
        while self.hang.is_set():
            self.hang.wait(0.01)
            threading.Event().wait(0.01)
        if self.fail:
            raise SinkError("fake: gone")
        self.got.append(packet)

    def close(self):
        self.got.append("closed")

    def finish(self):
        self.got.append("finished")


@pytest.fixture
def output():
    """A worker over fake outlets: (worker, outlets made so far, times that a keyframe was asked for)."""
    outlets, asked = [], []

    def make():
        outlets.append(FakeOutlet())
        return outlets[-1]

    retry = RetryOptions(first_s=0.1, max_s=0.1)
    stats = CameraStats()
    worker = OutletWorker(make, stats, retry, timeout_s=0.3, ask_key=lambda: asked.append(1))
    worker.stats = stats
    worker.start()
    yield worker, outlets, asked
    for outlet in outlets:
        outlet.hang.clear()
    worker.stop()


def packet(number, *, key=False, kind="video"):
    return EncodedPacket(kind, number, number / 25, key)


def payloads(outlet):
    return [item.payload for item in outlet.got if isinstance(item, EncodedPacket)]


def test_an_output_begins_with_a_keyframe_and_ends_complete(output):
    worker, (outlet,), _ = output
    streams = Streams("video")
    worker.streams(streams)
    for number in range(6):
        worker.put(packet(number, key=number == 2))
    assert until(lambda: payloads(outlet) == [2, 3, 4, 5])
    worker.stop()
    assert outlet.got[-2:] == ["closed", "finished"]
    assert worker.connection.state is State.ENDED
    assert worker.stats.snapshot().drops == {"output": 2}


def test_new_streams_open_it_again_with_a_keyframe(output):
    worker, (outlet,), _ = output
    first, second = Streams("one"), Streams("two")
    worker.streams(first)
    worker.put(packet(0, key=True))
    worker.streams(second)
    worker.put(packet(1))
    worker.put(packet(2, key=True))
    assert until(lambda: payloads(outlet) == [0, 2])
    assert [item for item in outlet.got if isinstance(item, Streams)] == [first, second]


def test_one_that_fails_is_opened_again_and_asks_for_a_keyframe(output):
    worker, (outlet,), asked = output
    worker.streams(Streams("video"))
    worker.put(packet(0, key=True))
    assert until(lambda: payloads(outlet) == [0])
    outlet.fail = True
    worker.put(packet(1))
    assert until(lambda: worker.connection.state is State.BACKOFF)
    assert worker.connection.reason == "fake: gone"
    worker.put(packet(2))  # dropped, while it is away
    outlet.fail = False
    assert until(lambda: asked)
    for number in range(3, 60):
        worker.put(packet(number, key=number % 5 == 0))
    assert until(lambda: payloads(outlet)[-1] == 59)
    assert payloads(outlet)[1] % 5 == 0 and worker.connection.reconnects == 1


def test_one_that_hangs_is_replaced(output):
    worker, outlets, _ = output
    worker.streams(Streams("video"))
    outlets[0].hang.set()
    worker.put(packet(0, key=True))
    assert outlets[0].writing.wait(5)

    def replaced():
        worker.check()
        return len(outlets) == 2

    assert until(replaced)

    def written():
        worker.put(packet(50, key=True))
        return payloads(outlets[1])

    assert until(written)
    outlets[0].hang.clear()
    assert until(lambda: outlets[0].got[-1] == "closed"), "what was left behind cleans up"


def test_one_that_is_far_behind_begins_again_with_a_keyframe(output):
    worker, (outlet,), asked = output
    worker.streams(Streams("video"))
    outlet.hang.set()
    for number in range(25 * 7):
        worker.put(packet(number, key=number == 0))
    assert asked and worker.stats.snapshot().drops["output"] > 100
    worker.put(packet(1000, key=True))
    outlet.hang.clear()
    assert until(lambda: payloads(outlet) and payloads(outlet)[-1] == 1000)


def test_what_is_taken_only_at_the_end_counts_then(output):
    worker, (outlet,), _ = output
    outlet.confirmed = False
    worker.streams(Streams("video"))
    worker.put(packet(0, key=True))
    assert until(lambda: payloads(outlet) == [0])
    assert worker.packets == 0 and worker.connection.state is State.CONNECTING
    close = outlet.close

    def complete():
        close()
        outlet.confirmed = True

    outlet.close = complete
    worker.stop()
    assert worker.packets == 1 and worker.connection.state is State.ENDED


def test_one_that_cannot_be_completed_has_failed(output):
    worker, (outlet,), _ = output
    worker.streams(Streams("video"))
    worker.put(packet(0, key=True))
    assert until(lambda: payloads(outlet) == [0])

    def broken():
        raise SinkError("fake: the disk is full")

    outlet.close = broken
    worker.stop()
    assert worker.connection.state is State.FAILED
    assert worker.connection.failure == "fake: the disk is full"
