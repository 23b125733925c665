from tests.live.fakes import SlowEngine, until
from tests.media.synth import Video, write
from vderain.interfaces import EngineSpec
from vderain.live.report import output_losses, station_report


class ForeseeingEngine(SlowEngine):
    def open(self, fmt):
        return EngineSpec("slow", "float32", "cpu", "fast", frames=3, lookahead=1)


def test_no_frame_of_the_future_is_reported_as_used(watch, tmp_path):
    path = write(tmp_path / "clip.mp4", Video(pts=tuple(range(0, 50 * 3600, 3600))))
    station = watch(path, engine=ForeseeingEngine())
    assert until(lambda: station.engines.specs)
    (engine,) = station_report(station)["engines"]
    assert (engine["frames"], engine["lookahead"]) == (3, 0)


def test_losses_name_what_of_the_camera_is_not_in_the_outputs(watch, tmp_path):
    pts = tuple(range(0, 25 * 3600, 3600))
    path = write(tmp_path / "clip.mkv", Video(pts=pts, languages=("eng", "deu")))
    station = watch(path, tmp_path / "recordings")
    (session,) = station.sessions
    assert until(lambda: session.ended, 20)
    station.stop()
    (before,) = station_report(station)["cameras"]
    assert [loss for loss in before["losses"] if "track" in loss] == [
        "track 2 (audio aac) is not sent on"
    ]
    assert before["outputs"][0]["packets"] > 0 and before["outputs"][0]["state"] == "ended"
    session.stats.frame("passed")
    session.stats.decode_errors = 3
    session.sound_failures = 4
    (after,) = station_report(station)["cameras"]
    added = [loss for loss in after["losses"] if loss not in before["losses"]]
    passed = before["frames"].get("passed", 0) + 1
    assert added == [
        f"{passed} frames passed through with their rain",
        "3 damaged packets or frames",
        "4 packets of sound could not be decoded",
    ]


def test_an_output_that_received_nothing_is_a_loss_with_its_reason(watch, tmp_path):
    (tmp_path / "blocked").write_bytes(b"a file, where a folder should be")
    pts = tuple(range(0, 25 * 3600, 3600))
    station = watch(
        write(tmp_path / "clip.mkv", Video(pts=pts)), tmp_path / "blocked" / "recordings"
    )
    (session,) = station.sessions
    assert until(lambda: session.broadcast.workers[0].connection.failure, 20)
    assert until(lambda: session.ended, 20)
    (loss,) = output_losses(session)
    assert "recordings" in loss and ": nothing was sent (" in loss
    assert loss in station_report(station)["cameras"][0]["losses"]
