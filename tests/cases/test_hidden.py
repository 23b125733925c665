"""What an edit list hides does not come to light."""

import av
import pytest

from tests.media.synth import packet_times, payloads, write


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
