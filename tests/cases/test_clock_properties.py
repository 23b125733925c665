"""Whatever the clock of a container does, all frames and sound come out, in order and in sync.

VDERAIN_EXAMPLES tries more than the few of a usual run.
"""

import os
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cases.clips import RATE, Part, assert_kept, joined, playlist, write

pytestmark = pytest.mark.slow

WRAP_S = Fraction(2**33, 90_000)
EXAMPLES = int(os.environ.get("VDERAIN_EXAMPLES", "20"))
JUMPING = ("ts", "mkv", "m3u8", "fragments.mp4")
STEADY = ("mp4", "mov")
ORIGINS_S = {
    "ts": (Fraction(0), Fraction(7, 5), Fraction(40_000), WRAP_S - Fraction(1, 2), WRAP_S - 3000),
    "m3u8": (Fraction(7, 5), Fraction(40_000), WRAP_S - Fraction(1, 2)),
    "mkv": (Fraction(0), Fraction(7, 5), Fraction(40_000)),
    "fragments.mp4": (Fraction(0), Fraction(7, 5), Fraction(72_000)),
    "mp4": (Fraction(0), Fraction(7, 5), Fraction(40)),
    "mov": (Fraction(0), Fraction(7, 5), Fraction(40)),
}
AHEAD_S = (Fraction(70), Fraction(700), Fraction(30_000))
BACK_S = (Fraction(1), Fraction(5), Fraction(2000))


@st.composite
def clocks(draw):
    """A kind of container, and parts whose clocks it can have."""
    kind = draw(st.sampled_from(JUMPING + STEADY))
    first_s = at_s = draw(st.sampled_from(ORIGINS_S[kind]))
    sound = {
        "tracks": draw(st.integers(0, 2)),
        "sound_s": draw(st.sampled_from((Fraction(0), Fraction(3, 10)))),
        "b_frames": draw(st.integers(0, 3)),
    }
    parts = []
    for number in range(draw(st.integers(1, 3)) if kind in JUMPING else 1):
        if number:
            at_s = _jumped(draw, kind, at_s, first_s)
        frames = draw(st.integers(14, 30))
        odd = st.sets(st.integers(3, frames - 2), max_size=3)
        missing = draw(odd)
        double = draw(odd) - missing - {index + 1 for index in missing}
        shown = sum(part.shown for part in parts)
        parts.append(
            Part(frames, at_s, first=shown, missing=tuple(missing), double=tuple(double), **sound)
        )
        at_s += Fraction(frames, RATE)
    return kind, parts


def _jumped(draw, kind, at_s, first_s):
    """Where a clock goes on that stood at ``at_s``."""
    ahead = draw(st.sampled_from(AHEAD_S))
    # Counters that run over are tried at the beginning.
    if draw(st.booleans()) and first_s < WRAP_S - 50_000:
        return at_s + ahead
    return max(Fraction(0), at_s - draw(st.sampled_from(BACK_S)))


def made(folder, kind, parts):
    if kind == "m3u8":
        return playlist(folder, *parts)
    if kind == "fragments.mp4":
        return joined(folder / "rainy.mp4", *parts)
    if kind in STEADY:
        return write(folder / f"rainy.{kind}", *parts)
    return joined(folder / f"rainy.{kind}", *parts)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 100,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(clock=clocks(), output=st.sampled_from(("mp4", "mov", "mkv", "ts")))
def test_a_run_keeps_frames_order_distances_and_sync(user, clock, output):
    kind, parts = clock
    source = made(user.folder, kind, parts)
    done, dry = user.run(source.name, f"dry.{output}")
    assert (done.code, done.losses) == (0, [])
    assert_kept(source, dry, *parts)
    found = user.info(source.name)["info"]
    shown = sum(part.shown for part in parts)
    assert found["frames"] == pytest.approx(shown, rel=0.1)
    length_s = sum(part.frames for part in parts) / RATE
    assert found["duration_s"] == pytest.approx(length_s, rel=0.1, abs=0.2)


@settings(
    max_examples=max(3, EXAMPLES // 4),
    deadline=None,
    derandomize=EXAMPLES <= 100,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(clock=clocks().filter(lambda clock: clock[0] != "m3u8"))
def test_a_batch_keeps_them_too(user, clock):
    kind, parts = clock
    source = made(user.folder, kind, parts)
    done, folder = user.batch(source.name, "--segment", "1")
    assert done.code == 0, done.said
    assert_kept(source, folder / source.name, *parts)
