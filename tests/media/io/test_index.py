from itertools import pairwise
from pathlib import Path

import pytest

from tests.media import synth
from tests.media.pieces import UNEVEN, make
from vderain.errors import SourceError
from vderain.media.io.index import index_video


@pytest.mark.parametrize("extension", ["mp4", "mkv", "mov", "ts"])
@pytest.mark.parametrize("kind", ["h264", "h264-b", "hevc-b", "hevc-cra"])
def test_closed_groups_follow_each_other_and_hold_all_frames(tmp_path, kind, extension):
    path = make(tmp_path / f"a.{extension}", kind)
    index = index_video(path)
    assert index.frames == len(UNEVEN) and index.codec == kind.split("-")[0]
    assert len(index.gops) == 4 and all(gop.is_closed for gop in index.gops)
    assert all(a.end_pts == b.start_pts for a, b in pairwise(index.gops))
    times = synth.times(path)
    assert index.gops[0].start_pts * index.time_base == times[0]
    assert [gop.frames for gop in index.gops] == [10] * 4
    assert index.last_pts * index.time_base == times[-1] < index.gops[-1].end_pts * index.time_base


@pytest.mark.parametrize("kind", ["h264-open", "hevc-open"])
def test_open_gops_are_marked_and_begin_with_their_leading_images(tmp_path, kind):
    index = index_video(make(tmp_path / "a.mp4", kind))
    assert [gop.is_closed for gop in index.gops] == [True, False, False, False]
    for gop in index.gops:
        inside = [pts for pts in UNEVEN if gop.start_pts <= pts < gop.end_pts]
        assert inside[0] == gop.start_pts and len(inside) == gop.frames


def test_a_recovery_point_that_is_flagged_as_a_keyframe_is_not_closed(tmp_path):
    params = "open-gop=1:scenecut=0:bframes=0:ref=3:force-cfr=1:intra-refresh=1:keyint=10"
    path = make(tmp_path / "a.ts", "h264", options={"x264-params": params})
    assert not any(gop.is_closed for gop in index_video(path).gops[1:])


def test_a_file_without_video_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing" * 99)
    with pytest.raises(SourceError, match=r"a\.mp4"):
        index_video(str(tmp_path / "a.mp4"))


def test_a_place_that_reading_never_gets_past_ends_it_with_the_name_of_the_file(tmp_path):
    pts = tuple(range(0, 20 * synth.STEP, synth.STEP))
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    path = Path(synth.write(tmp_path / "a.mp4", pts=pts, options={"g": "5"}, container=fragments))
    content = bytearray(path.read_bytes())
    run = content.index(b"trun", content.index(b"trun") + 4)  # of the second fragment
    content[run + 12 : run + 16] = (-100_000).to_bytes(4, "big", signed=True)  # where its data lie
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.mp4: reading does not get past damage"):
        index_video(str(path))
