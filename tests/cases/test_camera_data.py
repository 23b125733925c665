"""Tracks of a camera's data that FFmpeg does not write stay in MP4 and MOV: phones, drones, action cameras."""

import pytest

from tests.cases.test_boxes import movie_of, rewritten
from tests.media.synth import packet_times, payloads, write
from vderain.media.mp4.boxes import Box, sample_entries

APPLE_KEYS = Box(
    b"keys", bytes(Box(b"\0\0\0\1", bytes(Box(b"keyd", b"mdtacom.apple.quicktime.x"))))
)
KINDS = {
    "mebx": Box(b"mebx", bytes(7) + b"\1" + bytes(APPLE_KEYS)),
    "djmd": Box(b"djmd", bytes(7) + b"\1" + b"\0\0\0\x0cdvtm_x"),
    "camm": Box(b"camm", bytes(7) + b"\1"),
}


def data_track(path):
    """The track of a file that is neither video nor sound."""
    (track,) = [
        track
        for track in movie_of(path).all(b"trak")
        if track.find(b"mdia", b"hdlr").data[8:12] not in (b"vide", b"soun")
    ]
    return track


def with_data(user, kind, name="in.mp4", more=()):
    """A clip with a track of such data, one sample for each frame."""
    path = user.folder / name
    write(path, languages=("eng",), data=24)

    def change(movie):
        (track,) = [
            track
            for track in movie.all(b"trak")
            if track.find(b"mdia", b"hdlr").data[8:12] == b"meta"
        ]
        track.find(b"mdia", b"minf", b"stbl", b"stsd").children = [KINDS[kind], *more]
        track.find(b"mdia", b"minf", b"stbl", b"stsd").data = bytes(7) + bytes([1 + len(more)])
        track.find(b"mdia", b"hdlr").data = bytes(4) + b"mhlr" + b"meta" + bytes(12) + b"\6Camera"
        minf = track.find(b"mdia", b"minf")
        minf.children = [
            Box(b"nmhd", bytes(4)),
            *(box for box in minf.children if box.kind != b"gmhd"),
        ]

    return rewritten(path, change)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["out.mp4", "out.mov", "batch"])
def test_data_of_a_camera_stays_a_track_with_its_description(user, kind, target):
    source = with_data(user, kind)
    assert payloads(source, 2), "FFmpeg reads the track"
    if target == "batch":
        done, folder = user.batch(source.name)
        output = folder / source.name
    else:
        done, output = user.run(source.name, target)
    assert (done.code, done.losses) == (0, []), done.said
    theirs, ours = data_track(source), data_track(output)
    assert bytes(sample_entries(ours)[0]) == bytes(sample_entries(theirs)[0])
    assert len(sample_entries(ours)) == 1
    assert ours.find(b"mdia", b"hdlr").data == theirs.find(b"mdia", b"hdlr").data
    assert [box.kind for box in ours.find(b"mdia", b"minf").all(b"nmhd", b"gmhd")] == [b"nmhd"]
    assert payloads(output, 2) == payloads(source, 2)
    assert packet_times(output, 2) == packet_times(source, 2)


def test_info_names_no_loss_of_such_a_track(user):
    with_data(user, "mebx")
    assert "next to" not in str(user.info("in.mp4"))


def test_data_with_several_descriptions_lies_next_to_the_output(user):
    with_data(user, "mebx", more=(KINDS["djmd"],))
    done, _ = user.run("in.mp4", "out.mp4")
    assert done.code == 3 and any("kept next to the output" in loss for loss in done.losses)


def test_data_of_a_camera_lies_next_to_a_container_that_cannot_hold_it(user):
    with_data(user, "djmd")
    done, _ = user.run("in.mp4", "out.mkv")
    assert done.code == 3 and any("kept next to the output" in loss for loss in done.losses)
