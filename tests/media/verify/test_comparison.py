import pytest

from tests.media import synth
from tests.media.pieces import UNEVEN, cut, make
from vderain.media.edit.assemble import assemble
from vderain.media.verify.comparison import problems_of


@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts"])
def test_an_output_with_everything_is_verified(tmp_path, extension):
    source = make(tmp_path / "a.mp4", "h264-b", languages=("eng", "deu"), data=True)
    output = tmp_path / f"out.{extension}"
    synth.process(source, output)
    assert problems_of(source, str(output), frames=40, decode=True) == []


def test_what_is_missing_is_named(tmp_path):
    source = make(tmp_path / "a.mp4", "h264", languages=("eng", "deu"))
    other = make(tmp_path / "b.mp4", "h264", languages=("eng",), pts=tuple(range(0, 108_000, 3600)))
    problems = " ".join(problems_of(source, other))
    assert "30 video frames instead of 40" in problems
    assert "#2 audio aac is missing" in problems and "another content" in problems


def test_other_times_are_a_problem(tmp_path):
    source = make(tmp_path / "a.mp4", "h264")
    other = make(tmp_path / "b.mp4", "h264", pts=tuple(range(0, 40 * 3600, 3600)))
    assert "another time" in " ".join(problems_of(source, other))


def test_fewer_frames_than_the_source_has_packets_still_need_its_times(tmp_path):
    source = make(tmp_path / "a.mp4", "h264")
    for number, times in enumerate((UNEVEN[:35] + UNEVEN[37:], UNEVEN[2:], UNEVEN[:38])):
        other = make(tmp_path / f"{number}.mp4", "h264", pts=times)
        assert problems_of(source, other, frames=len(times)) == []
    moved = (*UNEVEN[:20], UNEVEN[20] + 5, *UNEVEN[23:])
    other = make(tmp_path / "moved.mp4", "h264", pts=moved)
    assert problems_of(source, other, frames=38) == [
        "1 video frames have a time that no frame of the source has"
    ]


def test_damage_is_found_where_all_is_decoded(tmp_path):
    parts = cut(tmp_path, "h264", "mp4")
    output = tmp_path / "out.mp4"
    assemble(parts.source, parts.pieces("wdw"), str(output), encode=parts.encode)
    assert problems_of(parts.source, str(output), decode=True) == []
    data = bytearray(output.read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 400] = b"\xff" * 400
    output.write_bytes(data)
    assert problems_of(parts.source, str(output), decode=True)


def test_an_output_that_cannot_be_read_is_a_problem(tmp_path):
    source = make(tmp_path / "a.mp4", "h264")
    assert "there is no such file" in problems_of(source, str(tmp_path / "b.mp4"))[0]


def test_a_timecode_that_went_missing_is_a_problem(tmp_path):
    source = make(tmp_path / "a.mp4", "h264", metadata={"timecode": "01:02:03:04"})
    other = make(tmp_path / "b.mp4", "h264")
    assert problems_of(source, other) == ["its timecode 01:02:03:04 is missing"]
    assert problems_of(source, make(tmp_path / "b.ts", "h264")) == []  # holds none
