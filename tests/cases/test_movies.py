"""Where MP4 files are put one behind the other, the report says that only the first was read."""

from dataclasses import replace
from fractions import Fraction

import pytest

from tests.cases.clips import Part, assert_kept, content, joined, write
from tests.media.synth import times
from vderain.errors import SourceError

FOLLOWS = "another movie follows at byte"


def put_together(path, *pieces):
    path.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    return path


@pytest.mark.parametrize("more", [{}, {"movflags": "faststart"}], ids=["index last", "index first"])
def test_a_second_movie_is_named_with_its_place(user, more):
    first = write(user.folder / "one.mp4", Part(20), **more)
    second = write(user.folder / "two.mp4", Part(20, first=20), **more)
    put_together(user.folder / "rainy.mp4", first, second)
    done, dry = user.run("rainy.mp4", "dry.mp4")
    assert done.code == 3
    assert done.losses[0].startswith(f"{FOLLOWS} {first.stat().st_size},")
    assert len(times(dry)) == 20
    assert FOLLOWS in "\n".join(user.info("rainy.mp4")["losses"])


def test_a_batch_names_it_once_too(user):
    pieces = [write(user.folder / f"{n}.mp4", Part(60, first=60 * n)) for n in range(2)]
    put_together(user.folder / "rainy.mp4", *pieces)
    done, _ = user.batch("rainy.mp4", "--segment", "1")
    assert done.code == 3
    assert done.said.count(FOLLOWS) == 1


def test_fragments_of_a_recorder_that_starts_again_are_all_read(user):
    parts = (Part(20, Fraction(3)), Part(20, Fraction(1), first=20))
    pieces = [joined(user.folder / f"{n}.mp4", part) for n, part in enumerate(parts)]
    source = put_together(user.folder / "rainy.mp4", *pieces)
    whole = joined(user.folder / "whole.mp4", *parts)
    done, dry = user.run("rainy.mp4", "dry.mkv")
    assert (done.code, done.losses) == (0, [])
    assert content(dry).numbers == list(range(40))
    assert len(source.read_bytes()) > len(whole.read_bytes())


def test_fragments_of_other_settings_are_left_out_and_named(user):
    part = Part(20, Fraction(3))
    first = joined(user.folder / "one.mp4", part)
    second = joined(user.folder / "two.mp4", replace(part, b_frames=0, first=20))
    put_together(user.folder / "rainy.mp4", first, second)
    done, dry = user.run("rainy.mp4", "dry.mkv")
    assert done.code == 3
    assert done.losses[0].startswith(f"{FOLLOWS} {first.stat().st_size},")
    assert_kept(first, dry, part)


@pytest.mark.parametrize("parts", [(Part(20),), (Part(20), Part(20, Fraction(100), first=20))])
def test_one_movie_is_not_named(user, parts):
    joined(user.folder / "rainy.mp4", *parts)
    done, _ = user.run("rainy.mp4", "dry.mp4")
    assert FOLLOWS not in done.said


@pytest.mark.parametrize("place", [b"mdhd", b"stbl"])
def test_an_index_that_was_cut_off_is_named(user, place):
    source = write(user.folder / "in.mp4", Part(10, tracks=0))
    whole = source.read_bytes()
    source.write_bytes(whole[: whole.index(place) + 8])
    with pytest.raises(SourceError, match=r"in\.mp4: its index is cut off"):
        user.run("in.mp4", "out.mp4")
