import gc
import re
from contextlib import closing
from fractions import Fraction

import av
import pytest

from tests.media import synth
from tests.media.pieces import derain, encode_for, frames, make
from vderain.errors import SourceError
from vderain.media.io.index import index_video
from vderain.media.source import VideoSource
from vderain.media.span import FrameSpan
from vderain.options import EncodeOptions, RunOptions


@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("kind", ["h264-b", "h264-open", "hevc-open", "hevc-cra"])
def test_a_segment_is_that_part_of_the_whole_decode(tmp_path, kind, extension):
    path = make(tmp_path / f"a.{extension}", kind, languages=("eng",))
    whole = frames(path)
    assert len(whole) == 40
    times = [pts for pts, _ in whole]
    for start, end in ((0, 7), (1, 3), (20, 30), (17, 31), (33, None)):
        for before, after in ((0, 0), (2, 1), (12, 3)):
            got = frames(
                path, times[start], times[end] if end else None, before=before, after=after
            )
            assert got == whole[max(0, start - before) : end + after if end else None]


def test_a_segment_without_frames_is_refused(tmp_path):
    path = make(tmp_path / "a.mp4", "h264")
    with pytest.raises(SourceError, match="no image lies in the segment"):
        frames(path, 10**9, None)


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "ffv1"])
def test_an_intermediate_file_keeps_times_and_begins_with_a_closed_group(tmp_path, codec):
    path = make(tmp_path / "a.mp4", "h264-b")
    times = [pts for pts, _ in frames(path)]
    report = derain(path, tmp_path / "s.nut", times[13], times[25], encode_for(codec))
    assert report.frames == 12
    assert synth.times(tmp_path / "s.nut") == [Fraction(pts, 90_000) for pts in times[13:25]]
    assert index_video(str(tmp_path / "s.nut")).gops[0].is_closed


def test_an_intermediate_file_appears_only_when_it_is_complete_and_replaces_an_older(tmp_path):
    path = make(tmp_path / "a.mp4", "h264")
    (tmp_path / "s.nut").write_bytes(b"old")
    derain(path, tmp_path / "s.nut", None, 36_000, encode_for("h264"))
    with av.open(str(tmp_path / "s.nut")) as container:
        assert container.format.name == "nut"
    assert {item.name for item in tmp_path.iterdir()} == {"a.mp4", "s.nut"}


def test_a_segment_is_encoded_alike_on_machines_with_any_number_of_cores(tmp_path):
    path = make(tmp_path / "a.mp4", "h264-b")
    derain(path, tmp_path / "s.nut", 0, None, encode_for("h264"))
    said = re.search(rb"threads=(\d+) .*sliced_threads=(\d)", (tmp_path / "s.nut").read_bytes())
    assert said.groups() == (b"4", b"0")


def test_a_segment_names_no_loss_of_what_the_assembled_output_holds(tmp_path):
    options = {"g": "10", "bf": "0", "x264-params": "sar=2/1"}
    path = make(tmp_path / "a.mp4", "h264", options=options)
    encode = EncodeOptions(codec="ffv1", overwrite=True)
    assert derain(path, tmp_path / "s.nut", None, None, encode).losses == []


@pytest.mark.parametrize("wanted", [3, 99], ids=["left early", "read to the end"])
def test_what_was_decoded_does_not_wait_for_the_garbage_collector(tmp_path, wanted):
    path = make(tmp_path / "a.mp4", "h264")
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            options = {"run": RunOptions(), "encode": EncodeOptions()}
            with closing(VideoSource(str(path), **options, span=FrameSpan(0))) as source:
                for _, frame in zip(range(wanted), source, strict=False):
                    del frame
            del source
        kinds = (VideoSource, av.VideoFrame, av.VideoCodecContext)
        left = [one for one in gc.get_objects() if issubclass(type(one), kinds)]
    finally:
        gc.enable()
    assert not left
