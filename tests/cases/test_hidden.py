"""What an edit list hides does not come to light."""

import struct
from fractions import Fraction

import av
import pytest

from tests.media.synth import decoded_frames, packet_times, payloads, write
from vderain.media.mp4.boxes import Box, places, read_movie


def heard(path):
    """The packets of the sound that players play, as bytes."""
    with av.open(str(path)) as container:
        sound = container.streams.audio[0]
        return [bytes(p) for p in container.demux(sound) if p.size and not p.is_discard]


@pytest.mark.parametrize("target", ["out.mkv", "out.ts", "out.mov", "out.mp4"])
def test_sound_that_was_cut_away_stays_silent(user, target):
    source = user.file("trimmed_sound.mp4")
    done, output = user.run("trimmed_sound.mp4", target)
    wanted = heard(source)
    found = [packet[7:] if target == "out.ts" else packet for packet in heard(output)]
    assert found == wanted
    assert (done.code, done.losses) == (0, [])
    if target in ("out.mkv", "out.ts"):
        assert len(payloads(output, 1)) == len(wanted) < len(payloads(source, 1))
        assert any("that an edit list hides were left out" in note for note in done.lines("note"))


def test_a_batch_leaves_it_in_the_place_where_it_is_hidden(user):
    done, folder = user.batch("trimmed_sound.mp4")
    assert done.code == 0, done.said
    assert heard(folder / "trimmed_sound.mp4") == heard(user.file("trimmed_sound.mp4"))


def test_the_run_up_of_a_decoder_is_no_secret(user):
    source = write(user.folder / "in.mp4", languages=("eng",))
    assert packet_times(source, 1)[0] < 0
    done, output = user.run("in.mp4", "out.mkv")
    assert payloads(output, 1) == payloads(source, 1)
    assert done.lines("note") == []


def cut(path, *edits, speed=1):
    """Let a file show some parts of its video alone: (begin, length) in seconds."""
    content = path.read_bytes()
    with path.open("rb") as file:
        index = next(place for place in places(file) if place.kind == b"moov")
        movie = read_movie(file, index)
    assert index.end == len(content)
    header = movie.find(b"mvhd").data
    (unit,) = struct.unpack_from(">I", header, 12)
    track = movie.all(b"trak")[0]
    (samples,) = struct.unpack_from(">I", track.find(b"mdia", b"mdhd").data, 12)
    rows = [
        struct.pack(">IiI", round(lasts_s * unit), round(begin_s * samples), round(speed * 0x10000))
        for begin_s, lasts_s in edits
    ]
    table = Box(b"elst", struct.pack(">II", 0, len(rows)) + b"".join(rows))
    track.children = [box for box in track.children if box.kind != b"edts"]
    track.children.insert(1, Box(b"edts", bytes(table)))
    path.write_bytes(content[: index.start] + bytes(movie))


def test_frames_that_an_edit_list_hides_are_not_announced(user):
    source = user.folder / "in.mp4"
    write(source, pts=tuple(range(50)), time_base=Fraction(1, 25))
    assert user.info("in.mp4")["info"]["frames"] == 50
    cut(source, (0, Fraction(2, 5)), (Fraction(6, 5), Fraction(3, 5)))
    announced = user.info("in.mp4")["info"]["frames"]
    assert announced < 50
    done, output = user.run("in.mp4", "out.mp4")
    assert len(decoded_frames(output)) == announced, done.said


@pytest.mark.parametrize("speed", [2, Fraction(1, 2), 0])
@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_a_speed_that_an_edit_list_asks_for_is_named_as_lost(user, target, speed):
    source = user.folder / "in.mp4"
    write(source, pts=tuple(range(20)), time_base=Fraction(1, 25))
    cut(source, (0, Fraction(2, 5)), speed=speed)
    assert any(loss.startswith("speed: ") for loss in user.info("in.mp4")["losses"])
    done, _ = user.run("in.mp4", target)
    assert done.code == 3
    assert any(loss.startswith("speed: ") for loss in done.losses)


@pytest.mark.parametrize("length_s", [Fraction(2, 5), Fraction(4, 5)])
def test_a_usual_edit_list_is_neither_damage_nor_a_loss_of_speed(user, length_s):
    source = user.folder / "in.mp4"
    write(source, pts=tuple(range(20)), time_base=Fraction(1, 25))
    cut(source, (0, length_s))
    done, _ = user.run("in.mp4", "out.mp4")
    assert (done.code, done.losses) == (0, [])
