"""What would help where encoding limits a run, by made-up times of its stages."""

from dataclasses import replace

import pytest

from vderain.cli.run import summary
from vderain.cli.wording import as_flags
from vderain.diagnostics.hints import encoding_hint
from vderain.media.io import encoders
from vderain.report import RunReport

COSTS = {"slow": 2.0, "fast": 1.0, "faster": 0.8, "veryfast": 0.5}


@pytest.fixture(autouse=True)
def costs(monkeypatch):
    x264 = replace(encoders.ENCODERS["h264"], costs=COSTS)
    monkeypatch.setitem(encoders.ENCODERS, "h264", x264)


def report(encode, other=1.0, *, seconds=None, cpu_s=0.0, preset="fast", codec="libx264"):
    """Of a run whose decoder, alignment and network take ``other`` seconds each."""
    stages = {"decode": other, "align": other, "derain": other, "encode": encode}
    return RunReport(
        codec=codec,
        preset=preset,
        frames_out=100,
        stage_s=stages,
        seconds=seconds or max(stages.values()),
        cpu_s=cpu_s,
    )


@pytest.mark.parametrize(
    ("run", "hint"),
    [
        (report(10.0), "preset='veryfast' would give about 2.0x"),
        (report(10.0, 6.6), "preset='veryfast' would give about 1.5x"),  # the next stage limits
        (report(10.0, 8.0), "preset='faster' would give about 1.2x"),  # as much as veryfast
        (report(10.0, preset="slow"), "preset='veryfast' would give about 4.0x"),
        (report(10.0, seconds=20.0), "preset='veryfast' would give about 1.3x"),  # it starts long
        (report(10.0, 9.5), ""),
        (report(10.0, 11.0), ""),  # another stage limits
        (report(10.0, preset="veryfast"), ""),
        (report(10.0, preset="ultrafast"), ""),  # not measured
        (report(10.0, codec="libx265"), ""),
        (report(10.0, codec="png", preset=""), ""),
        (report(0.0, 0.0, seconds=1.0), ""),
        (RunReport(codec="libx264", preset="fast"), ""),
    ],
)
def test_the_preset_that_would_help_is_named_with_what_it_gives(run, hint):
    assert encoding_hint(run, cores=4) == hint


def test_where_all_cores_are_busy_only_the_share_of_encoding_is_saved():
    busy = report(10.0, 5.0, cpu_s=20.0)
    # Two fifths of 20 CPU seconds are the encoder's, of which veryfast saves half: 16 are left for two cores.
    assert encoding_hint(busy, cores=2) == "preset='veryfast' would give about 1.2x"
    assert encoding_hint(busy, cores=16) == "preset='veryfast' would give about 2.0x"


def test_the_summary_says_what_limits_and_what_would_help():
    first = as_flags(summary(report(10.0))).splitlines()[0]
    assert first.endswith("limited by encode; --preset veryfast would give about 2.0x")
    first = as_flags(summary(report(1.0, 10.0))).splitlines()[0]
    assert first.endswith("limited by decode")
