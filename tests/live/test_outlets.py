"""Recordings, playlists and outputs, without a network."""

import os
import time
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.live.fakes import until
from tests.live.peers.servers import free_port, has_ffmpeg, listen, need
from tests.media.synth import Video, write
from vderain.errors import OptionError, SinkError
from vderain.live.states import State
from vderain.media.live.outlets import HlsOutlet, PublishOutlet, open_outlet
from vderain.media.live.recording import RecordingOutlet, recover

LIMITS = {"timeout_s": 5.0, "length_s": 600.0, "ca_file": None}


def clip(tmp_path, seconds=4, **changes):
    pts = tuple(range(0, seconds * 90_000, 3600))
    video = Video(size=(128, 96), pts=pts, options={"preset": "ultrafast"}, **changes)
    return write(tmp_path / "clip.mp4", video)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("rtsp://h/dry", PublishOutlet),
        ("rtmp://h/app/dry", PublishOutlet),
        ("udp://127.0.0.1:1", PublishOutlet),
        ("www/dry.m3u8", HlsOutlet),
        ("recordings/", RecordingOutlet),
        ("recordings", RecordingOutlet),
        ("dry.mp4", RecordingOutlet),
        ("dry.mkv", RecordingOutlet),
        ("www/dry.TS", RecordingOutlet),
    ],
)
def test_what_an_output_is_follows_from_its_name(path, kind):
    assert type(open_outlet(path, **LIMITS)) is kind


@pytest.mark.parametrize("path", ["http://h/x", "dry.avi", "dry.webm"])
def test_what_cannot_be_an_output_is_refused(path):
    with pytest.raises(OptionError):
        open_outlet(path, **LIMITS)


@pytest.mark.parametrize(
    ("suffix", "format"), [(".mp4", "mp4"), (".mkv", "matroska"), (".ts", "mpegts")]
)
def test_a_file_name_becomes_the_beginning_of_every_segment(watch, tmp_path, suffix, format):
    station = watch(clip(tmp_path, seconds=2, languages=("eng",)), tmp_path / f"dry{suffix}")
    assert until(lambda: station.sessions[0].ended, 20)
    station.stop()
    (segment,) = tmp_path.glob(f"dry-*{suffix}")
    with av.open(str(segment)) as container:
        assert format in container.format.name
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
        assert sum(1 for _ in container.decode(video=0)) >= 30


def test_sound_and_image_stay_together(watch, tmp_path):
    station = watch(clip(tmp_path, seconds=2, languages=("eng",)), tmp_path / "recordings")
    assert until(lambda: station.sessions[0].ended, 20)
    station.stop()
    (segment,) = (tmp_path / "recordings").iterdir()
    with av.open(str(segment)) as container:
        image, sound = container.streams.video[0], container.streams.audio[0]
        times = {"video": [], "audio": []}
        for packet in container.demux():
            if packet.pts is not None:
                times[packet.stream.type].append(float(packet.pts * packet.time_base))
    assert image.codec_context.name == "h264" and sound.codec_context.name == "aac"
    assert abs(times["video"][-1] - times["audio"][-1]) < 0.3


def test_a_segment_being_written_by_another_is_left_alone(tmp_path):
    source = clip(tmp_path)
    partial = tmp_path / "20260101-000000.mp4.part"
    os.rename(source, partial)
    holder = partial.open("rb")
    import fcntl

    fcntl.flock(holder, fcntl.LOCK_EX)
    assert recover(tmp_path) == []
    holder.close()
    assert recover(tmp_path) == [tmp_path / "20260101-000000.mp4"]
    (tmp_path / "broken.mp4.part").write_bytes(b"not a video")
    assert recover(tmp_path) == [] and (tmp_path / "broken.mp4.part").exists()


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_recordings_of_every_kind_that_were_cut_off_get_their_names(tmp_path, suffix):
    whole = Path(write(tmp_path / f"whole{suffix}")).read_bytes()
    (tmp_path / f"cut{suffix}.part").write_bytes(whole[: len(whole) * 9 // 10])
    assert recover(tmp_path) == [tmp_path / f"cut{suffix}"]


def test_recovery_never_replaces_a_recording(tmp_path):
    source = clip(tmp_path)
    kept = tmp_path / "a.mp4"
    kept.write_bytes(b"kept")
    os.rename(source, tmp_path / "a.mp4.part")
    assert recover(tmp_path) == []
    assert kept.read_bytes() == b"kept" and (tmp_path / "a.mp4.part").exists()


def test_a_folder_that_cannot_be_written_is_tried_again(watch, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file in the way")
    station = watch(clip(tmp_path, seconds=8), blocked / "recordings", backoff_max_s=1.0)
    worker = station.sessions[0].broadcast.workers[0]
    assert until(lambda: worker.connection.state is State.BACKOFF, 20)
    assert "blocked" in worker.connection.reason
    blocked.unlink()
    assert until(lambda: worker.connection.state is State.RUNNING, 20)


@pytest.mark.slow
def test_a_playlist_ends_with_the_stream_and_goes_on_in_a_new_one(watch, tmp_path):
    playlist = tmp_path / "www" / "dry.m3u8"
    source = clip(tmp_path, seconds=5)
    for _ in range(2):
        station = watch(source, playlist)
        assert until(lambda s=station: s.sessions[0].ended, 20)
        station.stop()
        text = playlist.read_text()
        assert text.rstrip().endswith("#EXT-X-ENDLIST") and text.count("#EXTINF") >= 2
        time.sleep(1)
    with av.open(str(playlist)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 80


def played(outlet, frames):
    """Write so many frames, 25 a second: whether each was known to be taken when it was written."""
    from tests.fakes import gray_frame
    from vderain.media.live.encode import LiveVideoEncoder
    from vderain.media.live.types import Streams
    from vderain.options import EncodeOptions

    encoder = LiveVideoEncoder(gray_frame(50, 0), Fraction(25), EncodeOptions())
    confirmed = []
    outlet.open(Streams(encoder.stream))
    for index in range(frames):
        for piece in encoder.encode(gray_frame(50, index), Fraction(index, 25)):
            outlet.write(piece)
            confirmed.append(outlet.confirmed)
    outlet.close()
    encoder.close()
    return confirmed


def test_a_playlist_is_taken_once_its_first_file_is_written(tmp_path):
    for _ in range(2):  # the second time over an older playlist
        outlet = HlsOutlet(tmp_path / "dry.m3u8")
        confirmed = played(outlet, 75)
        assert confirmed[:40] == [False] * 40 and confirmed[-1]
    outlet = HlsOutlet(tmp_path / "short.m3u8")
    assert not any(played(outlet, 20)) and outlet.confirmed


def test_a_short_playlist_that_cannot_be_written_is_reported():
    outlet = HlsOutlet(Path("/proc/x.m3u8"))
    with pytest.raises(SinkError, match="no file could be written"):
        played(outlet, 20)
    assert not outlet.confirmed


def test_the_encoder_takes_a_keyframe_on_request_and_rising_times():
    from tests.fakes import gray_frame
    from vderain.media.live.encode import LiveVideoEncoder
    from vderain.options import EncodeOptions

    encoder = LiveVideoEncoder(gray_frame(50, 0), Fraction(25), EncodeOptions())
    packets = []
    for index in range(20):
        time_s = Fraction(min(index, 10), 25)  # the second half has the same time
        packets += encoder.encode(gray_frame(50, index), time_s, key=index == 5)
    assert [i for i, p in enumerate(packets) if p.is_key] == [0, 5]
    times = [p.payload.pts for p in packets]
    assert len(packets) == 20 and times == sorted(set(times))
    encoder.close()


def test_sound_that_runs_ahead_does_not_end_an_rtp_output(tmp_path):
    from tests.fakes import gray_frame
    from vderain.media.live.encode import LiveAudio, LiveVideoEncoder
    from vderain.media.live.types import Streams
    from vderain.options import EncodeOptions

    encoder = LiveVideoEncoder(gray_frame(50, 0), Fraction(25), EncodeOptions())
    outlet = open_outlet(f"rtp://127.0.0.1:{free_port()}", **LIMITS)
    with av.open(str(clip(tmp_path, languages=("eng",)))) as container:
        sound = LiveAudio(container.streams.audio[0], transcode=False)
        outlet.open(Streams(encoder.stream, sound.stream, None))
        for packet in container.demux(audio=0):
            for piece in sound.packets(packet, Fraction(0)):
                outlet.write(piece)
    for index in range(50):  # four seconds late: RTP sends both as one stream of rising times
        for piece in encoder.encode(gray_frame(50, index), Fraction(index, 25)):
            outlet.write(piece)
    outlet.close()
    sound.close()
    encoder.close()


def test_codecs_that_no_stream_carries_are_refused():
    from vderain.media.live.encode import live_encoder
    from vderain.options import EncodeOptions

    with pytest.raises(OptionError, match="codec='ffv1'"):
        live_encoder(EncodeOptions(codec="ffv1"))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["rtmp", "tcp"])
def test_publishing_to_a_listener_that_takes_one_connection(watch, tmp_path, scheme):
    need("ffmpeg", has_ffmpeg())
    port = free_port()
    url = f"{scheme}://127.0.0.1:{port}" + ("/live/dry" if scheme == "rtmp" else "")
    address, words = (url, ("-listen", "1")) if scheme == "rtmp" else (f"{url}?listen=1", ())
    source = clip(tmp_path, seconds=60, languages=("eng",))
    station = watch(source, url, backoff_max_s=1.0)
    worker = station.sessions[0].broadcast.workers[0]
    for name in ("first.mkv", "second.mkv"):  # the listener is gone after each, and comes back
        listener = listen(address, tmp_path / name, 3, *words)
        assert listener.wait(40) == 0, (listener.stderr.read(), worker.connection.reason)
        listener.stderr.close()
        with av.open(str(tmp_path / name)) as container:
            assert sorted(stream.type for stream in container.streams) == ["audio", "video"]
            assert sum(1 for _ in container.decode(video=0)) >= 25
    assert worker.connection.connects == 2
