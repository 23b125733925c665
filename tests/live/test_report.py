from tests.live.fakes import SlowEngine, until
from tests.media.synth import Video, write
from vderain.interfaces import EngineSpec
from vderain.live.report import station_report


class ForeseeingEngine(SlowEngine):
    def open(self, fmt):
        return EngineSpec("slow", "float32", "cpu", "fast", frames=3, lookahead=1)


def test_no_frame_of_the_future_is_reported_as_used(watch, tmp_path):
    path = write(tmp_path / "clip.mp4", Video(pts=tuple(range(0, 50 * 3600, 3600))))
    station = watch(path, engine=ForeseeingEngine())
    assert until(lambda: station.engines.specs)
    (engine,) = station_report(station)["engines"]
    assert (engine["frames"], engine["lookahead"]) == (3, 0)
