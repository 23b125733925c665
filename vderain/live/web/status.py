"""What is known of every camera at one moment: for the page, for metrics, for health."""

from __future__ import annotations

import time
from dataclasses import dataclass

from vderain.live.session import CameraSession
from vderain.live.states import State
from vderain.live.station import Station

_FRESH_S = 10.0  # a camera is ready while a frame came out so recently


@dataclass(frozen=True, slots=True)
class OutletStatus:
    """One output of a camera; ``name`` is without secrets."""

    name: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """One camera, for people; times in milliseconds, rates in frames per second; best of ``tiers`` first."""

    index: int
    name: str
    state: str
    reason: str
    since_s: float
    tier: str
    tiers: tuple[str, ...]
    flag: str
    size: str
    fps_in: float
    fps_out: float
    latency_ms: float | None
    latency_p95_ms: float | None
    frames: dict[str, int]
    drops: dict[str, int]
    decode_errors: int
    reconnects: int
    frame: int
    outputs: tuple[OutletStatus, ...]


def camera_status(index: int, session: CameraSession) -> CameraStatus:
    """The status of one camera now."""
    connection, counts = session.connection, session.stats.snapshot()
    latency = counts.latency.get("emit")
    fmt, pair = session.format, session.preview.pair
    p50, p95 = (latency.percentile(share) if latency else None for share in (0.5, 0.95))
    flag = session.scheduled.flag if connection.state is State.RUNNING else ""
    return CameraStatus(
        index=index,
        name=session.name,
        state=str(connection.state),
        reason=connection.reason,
        since_s=round(time.monotonic() - connection.since_s, 1),
        tier="passthrough" if flag else session.scheduled.control.rung.name,
        tiers=tuple(rung.name for rung in session.scheduled.control.rungs),
        flag=flag,
        size=f"{fmt.width}x{fmt.height}" if fmt is not None else "",
        fps_in=round(session.stats.rate("decoded"), 1),
        fps_out=round(session.stats.rate("emitted"), 1),
        latency_ms=None if p50 is None else round(1000 * p50, 1),
        latency_p95_ms=None if p95 is None else round(1000 * p95, 1),
        frames=counts.frames,
        drops=counts.drops,
        decode_errors=counts.decode_errors,
        reconnects=connection.reconnects,
        frame=pair.number if pair is not None else 0,
        outputs=_outputs(session),
    )


def _outputs(session: CameraSession) -> tuple[OutletStatus, ...]:
    workers = session.broadcast.workers if session.broadcast is not None else ()
    return tuple(
        OutletStatus(w.name, str(w.connection.state), w.connection.reason) for w in workers
    )


def unready(station: Station) -> int:
    """How many cameras have no frame of the last seconds to show."""
    now_s = time.monotonic()
    pairs = [session.preview.pair for session in station.sessions]
    fresh = [p for p in pairs if p is not None and now_s - p.frame.arrived_s < _FRESH_S]
    return len(pairs) - len(fresh)
