"""How many frames per second each tier computes on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from vderain.engines import open_engine
from vderain.engines.measure import frames_per_s
from vderain.engines.tiers import chosen
from vderain.errors import VderainError
from vderain.frames import PlaneFormat
from vderain.options import SHIPPED_TIERS, EngineOptions

SIZES = ((640, 360), (1280, 720))
_FRAMES = 3  # that a rate is measured on, after the first


@dataclass(frozen=True, slots=True)
class TierRate:
    """What to expect of a tier, decoding, alignment and encoding not counted.

    Attributes:
        tier: its name.
        chosen: why ``auto`` takes this tier for files; "" where it takes another one.
        engine: which engine and precision runs.
        frames_per_s: by size, ``640x360`` and so on; empty where no engine runs.
        reason: why none runs.

    """

    tier: str
    chosen: str
    engine: str = ""
    frames_per_s: dict[str, float] = field(default_factory=dict)
    reason: str = ""


def tier_rates(sizes: tuple[tuple[int, int], ...] = SIZES) -> Iterator[TierRate]:
    """Measure every shipped tier at each of the sizes (width, height); a few seconds each on a CPU."""
    auto = chosen(EngineOptions())
    for tier in SHIPPED_TIERS:
        why = auto.reason if tier == auto.tier else ""
        try:
            with closing(open_engine(EngineOptions(tier=tier))) as engine:
                rates = {}
                for width, height in sizes:
                    fmt = PlaneFormat("yuv420", width, height)
                    rates[f"{width}x{height}"] = round(frames_per_s(engine, fmt, frames=_FRAMES), 1)
                spec = engine.open(fmt)
            yield TierRate(tier, why, f"{spec.name} {spec.precision}", rates)
        except VderainError as error:
            yield TierRate(tier, why, reason=str(error))
