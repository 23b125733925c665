"""Counters of all cameras in Prometheus' words; names as other camera servers use them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from vderain.live.session import CameraSession
from vderain.live.states import State
from vderain.live.station import Station
from vderain.live.stats import BUCKETS_S, Histogram, Snapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(station: Station) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(_Cameras(station))
    return generate_latest(registry)


class _Cameras(Collector):
    """Reads the counters when it is asked; nothing is counted twice."""

    def __init__(self, station: Station) -> None:
        self._station = station

    def collect(self) -> Iterator[Metric]:
        """All metrics of all cameras."""
        known = [(s, s.stats.snapshot()) for s in self._station.sessions]
        yield from _sources(known)
        yield from _frames(known)
        yield from _work(known)
        hangs = CounterMetricFamily("vderain_engine_hangs", "Engines that did not return in time")
        hangs.add_metric([], self._station.scheduler.hangs)
        yield hangs
        used = self._station.gpu_bytes
        if used is not None:
            yield GaugeMetricFamily(
                "vderain_gpu_memory_bytes", "Memory in use on the GPU, by all programs", used
            )


_Known = list[tuple[CameraSession, Snapshot]]


def _sources(known: _Known) -> Iterator[Metric]:
    up = GaugeMetricFamily("vderain_source_up", "1 while frames come", labels=["camera"])
    states = GaugeMetricFamily(
        "vderain_source_state", "1 for the state that a camera is in", labels=["camera", "state"]
    )
    reconnects = CounterMetricFamily(
        "vderain_reconnects", "Times that a camera came back", labels=["camera"]
    )
    outputs = GaugeMetricFamily(
        "vderain_output_up", "1 while an output accepts packets", labels=["camera", "output"]
    )
    for session, _ in known:
        state = session.connection.state
        up.add_metric([session.name], float(state is State.RUNNING))
        for each in State:
            states.add_metric([session.name, str(each)], float(each is state))
        reconnects.add_metric([session.name], session.connection.reconnects)
        for worker in session.broadcast.workers if session.broadcast is not None else ():
            running = worker.connection.state is State.RUNNING
            outputs.add_metric([session.name, worker.name], float(running))
    yield from (up, states, reconnects, outputs)


def _frames(known: _Known) -> Iterator[Metric]:
    frames = CounterMetricFamily(
        "vderain_frames", "Frames that left a stage", labels=["camera", "stage"]
    )
    drops = CounterMetricFamily(
        "vderain_frames_dropped", "Frames that went no further", labels=["camera", "reason"]
    )
    errors = CounterMetricFamily(
        "vderain_decode_errors", "Damaged packets and frames", labels=["camera"]
    )
    failures = CounterMetricFamily(
        "vderain_engine_failures", "Frames that the network failed on", labels=["camera"]
    )
    for session, counts in known:
        for stage, count in counts.frames.items():
            frames.add_metric([session.name, stage], count)
        for reason, count in counts.drops.items():
            drops.add_metric([session.name, reason], count)
        errors.add_metric([session.name], counts.decode_errors)
        failures.add_metric([session.name], counts.engine_failures)
    yield from (frames, drops, errors, failures)


def _work(known: _Known) -> Iterator[Metric]:
    latency = HistogramMetricFamily(
        "vderain_latency_seconds",
        "From the arrival of a frame's packet to the end of a stage; stage emit is the total",
        labels=["camera", "stage"],
    )
    depth = GaugeMetricFamily(
        "vderain_queue_depth", "Frames waiting before a stage", labels=["camera", "stage"]
    )
    busy = GaugeMetricFamily(
        "vderain_stage_busy_ratio",
        "Share of the time that a stage worked, since the start",
        labels=["camera", "stage"],
    )
    tier = GaugeMetricFamily(
        "vderain_tier", "1 for what frames get at the moment", labels=["camera", "tier"]
    )
    for session, counts in known:
        name, control = session.name, session.scheduled.control
        for stage, histogram in counts.latency.items():
            latency.add_metric([name, stage], _buckets(histogram), histogram.sum_s)
        depth.add_metric([name, "network"], len(session.scheduled.ring))
        if session.broadcast is not None:
            depth.add_metric([name, "encode"], session.broadcast.waiting)
        for stage, share in counts.busy.items():
            busy.add_metric([name, stage], share)
        used = "passthrough" if session.scheduled.flag else control.rung.name
        for rung in dict.fromkeys([*(r.name for r in control.rungs), "passthrough"]):
            tier.add_metric([name, rung], float(rung == used))
    yield from (latency, depth, busy, tier)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative counts, as Prometheus wants them."""
    buckets, total = [], 0
    for bound, count in zip((*BUCKETS_S, float("inf")), histogram.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
    return buckets
