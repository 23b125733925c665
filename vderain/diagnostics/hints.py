"""What would make a run faster, by what was measured while it ran."""

from __future__ import annotations

from vderain.machine import usable_cores
from vderain.media.io.encoders import ENCODERS
from vderain.report import RunReport

_LEAST_GAIN = 1.1  # below it a hint is not worth its line
_ABOUT_EQUAL = 0.95  # of the largest gain: the slower preset, which takes less space, is named


def encoding_hint(report: RunReport, cores: int | None = None) -> str:
    """The preset that would make a run faster which encoding limits, and how much; nothing where none would.

    ``cores`` are those that the process may use; None to look.
    """
    encoder = next((e for e in ENCODERS.values() if e.name == report.codec), None)
    limits = report.limiting_stage == "encode" and report.stage_s["encode"] > 0
    if encoder is None or not limits or report.preset not in encoder.costs:
        return ""
    own = encoder.costs[report.preset]
    gains = {
        preset: _gain(report, cost / own, cores or usable_cores())
        for preset, cost in encoder.costs.items()
        if cost < own
    }
    best = max(gains.values(), default=1.0)
    if best < _LEAST_GAIN:
        return ""
    preset = max(
        (preset for preset, gain in gains.items() if gain >= _ABOUT_EQUAL * best),
        key=lambda preset: encoder.costs[preset],
    )
    return f"preset={preset!r} would give about {gains[preset]:.1f}x"


def _gain(report: RunReport, share: float, cores: int) -> float:
    """How much faster the run would be if encoding took a ``share`` of its time.

    Two bounds hold: the next slowest stage, and the CPU, whose time is attributed to encoding by its share of
    the stages' busy time. The latter is an estimate, which errs on the low side where encoding uses more cores
    than the other stages do.
    """
    encode_s = report.stage_s["encode"]
    others_s = [busy_s for stage, busy_s in report.stage_s.items() if stage != "encode"]
    saved_s = encode_s - max(share * encode_s, *others_s)
    saved_cpu_s = (1 - share) * report.cpu_s * encode_s / (encode_s + sum(others_s))
    by_cpu_s = (report.cpu_s - saved_cpu_s) / cores
    return report.seconds / max(report.seconds - saved_s, by_cpu_s)
