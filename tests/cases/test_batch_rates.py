"""Outputs of a batch have the frame rate and the timecode of their sources, in the container and inside the stream."""

from fractions import Fraction

import av
import pytest

from tests.media.bitstream.test_ticks import rate_inside
from tests.media.synth import times


@pytest.mark.parametrize(
    ("name", "rate", "timecode"),
    [
        ("batch_rate.mkv", Fraction(30_000, 1001), None),
        ("batch_timecode_5994.mp4", Fraction(60_000, 1001), "10:20:30;04"),
    ],
)
def test_the_output_of_a_batch_has_the_rate_and_the_timecode_of_its_source(
    user, name, rate, timecode
):
    done, folder = user.batch(name)
    assert (done.code, done.losses) == (0, [])
    with av.open(str(folder / name)) as container:
        assert container.streams.video[0].guessed_rate == rate
    assert rate_inside(folder / name) == rate
    assert len(times(folder / name)) == len(times(user.file(name)))
    if timecode:
        with av.open(str(folder / name)) as container:
            assert container.streams.video[0].metadata["timecode"] == timecode
            assert any(stream.type == "data" for stream in container.streams)
