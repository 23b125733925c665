"""How often a batch reads its sources: once to look at them, once to derain them."""

from collections import Counter
from dataclasses import replace

import av
import pytest

from vderain.batch.options import BatchOptions
from vderain.batch.rain.spans import RainGating

FRAMES = 240


class Counted:
    """An input whose packets are counted, by the kind of their stream."""

    def __init__(self, container, packets):
        self._container, self._packets = container, packets

    def __getattr__(self, name):
        return getattr(self._container, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def demux(self, *streams):
        for packet in self._container.demux(*streams):
            self._packets[packet.stream.type] += bool(packet.size)
            yield packet

    def decode(self, *streams):
        for packet in self.demux(*streams):
            yield from packet.decode()


@pytest.fixture
def packets(monkeypatch):
    """Packets that were read from below a folder named "in", by the kind of their stream."""
    count, opened = Counter(), av.open

    def opens(file, mode="r", **options):
        container = opened(file, mode, **options)
        is_source = mode == "r" and "/in/" in str(file)
        return Counted(container, count) if is_source else container

    monkeypatch.setattr(av, "open", opens)
    return count


@pytest.mark.parametrize(
    ("name", "around_a_cut"),
    # In MPEG-TS there is no index, so that a keyframe is looked for from further ahead.
    [("a.mp4", 40), ("a.mkv", 40), ("a.ts", 150)],
)
@pytest.mark.parametrize("looks_for_rain", [False, True], ids=["all", "where it rains"])
def test_a_batch_reads_every_packet_of_a_source_twice(
    rig, packets, name, around_a_cut, looks_for_rain
):
    rig.settings = replace(rig.settings, batch=BatchOptions(segment_s=4.0))
    source = rig.clip(name, FRAMES, languages=("eng",))
    with av.open(str(source)) as container:
        held = Counter(packet.stream.type for packet in container.demux() if packet.size)
    packets.clear()
    rig.gating = RainGating(rig.settings.run, rig.settings.encode) if looks_for_rain else None
    assert len(rig.run().done) == 1
    cuts = 2
    assert 2 * held["video"] <= packets["video"] <= 2 * held["video"] + cuts * around_a_cut
    assert 2 * held["audio"] <= packets["audio"] <= 2 * held["audio"] + 20  # to know the tracks
