"""The report of a live run, camera by camera, written as JSON at its end."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

from vderain.live.outputs import OutletWorker
from vderain.live.session import CameraSession
from vderain.live.states import Connection, State
from vderain.live.station import Station
from vderain.live.stats import Histogram

_SHARES = (0.5, 0.95, 0.99)


def station_report(station: Station) -> dict[str, Any]:
    """Plain values for JSON; latencies in milliseconds over the whole run, no secrets."""
    # A live clip holds no future frame, whatever the network could use.
    specs = [asdict(replace(spec, lookahead=0)) for spec in station.engines.specs]
    return {
        "seconds": round(time.monotonic() - station.started_s, 1),
        "engines": [each for i, each in enumerate(specs) if each not in specs[:i]],
        "engine_hangs": station.scheduler.hangs,
        "cameras": [_camera(session) for session in station.sessions],
    }


def _camera(session: CameraSession) -> dict[str, Any]:
    counts = session.stats.snapshot()
    workers = session.broadcast.workers if session.broadcast is not None else []
    fmt = session.format
    return {
        "name": session.name,
        **_connection(session.connection),
        "size": f"{fmt.width}x{fmt.height}" if fmt is not None else "",
        "codec": session.info.codec if session.info is not None else "",
        "tier": session.scheduled.control.rung.name,
        "frames": counts.frames,
        "dropped": counts.drops,
        "decode_errors": counts.decode_errors,
        "engine_failures": counts.engine_failures,
        "latency_ms": {stage: _latency(each) for stage, each in counts.latency.items()},
        "outputs": [_output(worker) for worker in workers],
        "losses": _losses(session, workers),
        "notes": session_notes(session),
    }


def session_notes(session: CameraSession) -> list[str]:
    """Changes of representation without loss, each once."""
    if session.broadcast is None:
        return []
    workers = session.broadcast.workers
    return list(dict.fromkeys([*session.broadcast.notes, *(n for w in workers for n in w.notes)]))


def output_losses(session: CameraSession) -> list[str]:
    """Outputs that received nothing or are incomplete, with the reason where it is known."""
    losses = []
    for worker in session.broadcast.workers if session.broadcast is not None else ():
        reason = worker.connection.failure.removeprefix(f"{worker.name}: ")
        if not worker.packets:
            losses.append(f"{worker.name}: nothing was sent" + (f" ({reason})" if reason else ""))
        elif worker.connection.state is State.FAILED:
            losses.append(f"{worker.name}: {reason}")
    return losses


def _connection(connection: Connection) -> dict[str, Any]:
    return {
        "state": str(connection.state),
        "reason": connection.reason,
        "states": {str(state): count for state, count in connection.entered.items()},
        "reconnects": connection.reconnects,
        "failures": connection.failures,
    }


def _latency(histogram: Histogram) -> dict[str, float | int]:
    known = {f"p{round(100 * share)}": histogram.quantile(share) for share in _SHARES}
    rounded = {name: round(1000 * (value or 0.0), 1) for name, value in known.items()}
    return {"count": sum(histogram.counts), **rounded}


def _output(worker: OutletWorker) -> dict[str, Any]:
    return {
        "name": worker.name,
        **_connection(worker.connection),
        "packets": worker.packets,
        "notes": list(worker.notes),
    }


def _losses(session: CameraSession, workers: list[OutletWorker]) -> list[str]:
    """Losses: what of the camera is not in the outputs, and why."""
    counts = session.stats.snapshot()
    losses = [f"{count} frames dropped: {reason}" for reason, count in counts.drops.items()]
    if counts.frames.get("passed"):
        losses.append(f"{counts.frames['passed']} frames passed through with their rain")
    if counts.decode_errors:
        losses.append(f"{counts.decode_errors} damaged packets or frames")
    if session.sound_failures:
        losses.append(f"{session.sound_failures} packets of sound could not be decoded")
    tracks = session.info.tracks if session.info is not None and workers else ()
    kept = {"video": 1, "audio": 1 if session.keeps_sound else 0}
    for track in tracks:
        if kept.get(track.kind, 0):
            kept[track.kind] -= 1
        else:
            losses.append(f"track {track.index} ({track.kind} {track.codec}) is not sent on")
    return losses + output_losses(session)
