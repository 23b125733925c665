"""All cameras of one process: their sessions, the engines they share, and the thread that checks both."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import Any

from vderain.engines import gpu_bytes, open_engine
from vderain.engines.tiers import camera_frames, camera_tiers
from vderain.errors import OptionError
from vderain.frames import Frame
from vderain.interfaces import Engine
from vderain.live.broadcast import Broadcast
from vderain.live.options import LiveOptions
from vderain.live.scheduling.camera import ScheduledCamera
from vderain.live.scheduling.engines import LiveEngines
from vderain.live.scheduling.scheduler import Scheduler
from vderain.live.scheduling.tier_control import Rung, TierControl, ladder
from vderain.live.session import CameraSession, SessionParts, retry_options
from vderain.live.stats import CameraStats
from vderain.media.live.types import Camera, Outlet, Sound, VideoEncoder
from vderain.options import EncodeOptions, EngineOptions

logger = logging.getLogger(__name__)

_TICK_S = 0.25
_RETAIN_EVERY = 40  # ticks between two looks for engines that nobody needs


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """One camera: its name, its address, its outputs and its options."""

    name: str
    url: str
    outputs: tuple[str, ...] = ()
    live: LiveOptions = field(default_factory=LiveOptions)
    encode: EncodeOptions = field(default_factory=EncodeOptions)


class Station:
    """Runs cameras until they end or ``stop`` is called.

    Everything that can be known is checked at once: weights, encoders, kinds of sources and outputs.
    Raises OptionError, SourceError, WeightsError, SinkError.
    """

    def __init__(
        self,
        plans: Iterable[CameraPlan],
        *,
        engine: EngineOptions | None = None,
        strength: float = 1.0,
        open_engine_for: Callable[[Rung], Engine] | None = None,
    ) -> None:
        self._options = options = engine or EngineOptions()
        plans = list(plans)
        _check_plans(plans)
        if open_engine_for is None:
            # Weights that are missing must end the run, not pass through.
            open_engine(options).close()
            open_engine_for = partial(_open_rung, options)
        self._outputs = [output for plan in plans for output in plan.outputs]
        self._engines = LiveEngines(open_engine_for)
        timeout_s = max(plan.live.engine_timeout_s for plan in plans)
        self.scheduler = Scheduler(self._engines, strength=strength, timeout_s=timeout_s)
        self.sessions = [self._session(plan, options) for plan in plans]
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.started_s = time.monotonic()

    def make_folders(self) -> None:
        """Make the folders of local outputs and try to write there, before the start. Raises SinkError."""
        from vderain.media.live.outlets import make_folder

        for output in self._outputs:
            make_folder(output)

    def start(self) -> None:
        """Begin; returns at once."""
        self.scheduler.start()
        for session in self.sessions:
            session.start()
        self._thread = threading.Thread(
            target=self._check_regularly, name="vderain-watch", daemon=True
        )
        self._thread.start()

    def wait(self, timeout_s: float | None = None, *, stays: bool = False) -> bool:
        """Wait until every camera has ended or failed; False where the time was over before.

        With ``stays`` only the time, or an interrupt, ends the waiting.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while stays or not all(session.ended for session in self.sessions):
            if until_s is not None and time.monotonic() >= until_s:
                return False
            self._stop.wait(_TICK_S)
        return True

    def stop(self) -> None:
        """Complete all outputs and end every thread; may be called twice."""
        self._stop.set()
        stops = [threading.Thread(target=session.stop) for session in self.sessions]
        for thread in stops:
            thread.start()
        for thread in stops:
            thread.join()
        self.scheduler.stop()
        if self._thread is not None:
            self._thread.join()
        self._engines.close()

    @property
    def gpu_bytes(self) -> int | None:
        """Memory in use on the GPU, by all programs; None while no engine runs on one."""
        specs = [entry.spec for entry in self._engines.entries() if entry.state == "ready"]
        known = (gpu_bytes(spec, self._options) for spec in specs if spec is not None)
        return next((used for used in known if used is not None), None)

    @property
    def engines(self) -> LiveEngines:
        """The engines, for telemetry."""
        return self._engines

    def _session(self, plan: CameraPlan, engine: EngineOptions) -> CameraSession:
        stats = CameraStats()
        passthrough = plan.live.passthrough == "auto"
        rungs = ladder(camera_tiers(engine), engine.scale, passthrough=passthrough)
        scheduled = ScheduledCamera(
            plan.name,
            TierControl(rungs, time.monotonic()),
            stats,
            emit=lambda frame: None,  # the session puts its own here
            kept_frames=camera_frames(engine),
            passthrough=passthrough,
        )
        broadcast = _broadcast(plan, stats) if plan.outputs else None
        make_sound = _sound_maker(plan) if plan.live.audio == "auto" else None
        parts = SessionParts(
            partial(_open_camera, plan), make_sound, broadcast, scheduled, self.scheduler
        )
        return CameraSession(plan.name, parts, plan.live)

    def _check_regularly(self) -> None:
        ticks = 0
        while not self._stop.wait(_TICK_S):
            ticks += 1
            for session in self.sessions:
                session.tick()
            self.scheduler.check()
            if ticks % _RETAIN_EVERY == 0:
                known = [session.format for session in self.sessions]
                self._engines.retain({fmt for fmt in known if fmt is not None})


def _check_plans(plans: list[CameraPlan]) -> None:
    from vderain.media.live.connect import check_source
    from vderain.media.live.encode import live_encoder
    from vderain.media.live.reach import check_ca_file, unchecked_login

    if not plans:
        raise OptionError("there is no camera; name at least one")
    names = [plan.name for plan in plans]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"two cameras have the name {name}; give each its own")
    for plan in plans:
        check_ca_file(plan.live.ca_file)
        for output in plan.outputs:
            _open_outlet(output, plan)
        if plan.outputs:
            live_encoder(plan.encode)
        check_source(plan.url)
        for address in (plan.url, *plan.outputs):
            warning = unchecked_login(address, plan.live.ca_file)
            if warning is not None:
                logger.warning("%s", warning, extra={"camera": plan.name})


def _open_rung(options: EngineOptions, rung: Rung) -> Engine:
    assert rung.tier is not None
    return open_engine(replace(options, tier=rung.tier, scale=rung.scale))


def _open_camera(plan: CameraPlan) -> Camera:
    from vderain.media.live.camera import CameraSource
    from vderain.media.live.connect import CameraOptions

    options = CameraOptions(
        plan.live.rtsp_transport,
        plan.live.timeout_s,
        audio=plan.live.audio == "auto",
        ca_file=plan.live.ca_file,
        max_memory=plan.live.max_memory,
    )
    return CameraSource(plan.url, options, plan.encode)


def _open_outlet(output: str, plan: CameraPlan) -> Outlet:
    from vderain.media.live.outlets import open_outlet

    return open_outlet(
        output,
        timeout_s=plan.live.timeout_s,
        length_s=plan.live.segment_minutes * 60,
        ca_file=plan.live.ca_file,
    )


def _broadcast(plan: CameraPlan, stats: CameraStats) -> Broadcast:
    from vderain.media.live.encode import LiveVideoEncoder

    def make_encoder(frame: Frame, rate: Fraction | None, pixel_shape: Fraction) -> VideoEncoder:
        return LiveVideoEncoder(frame, rate, plan.encode, pixel_shape=pixel_shape)

    def make_outlet(output: str) -> Outlet:
        return _open_outlet(output, plan)

    return Broadcast(
        plan.name,
        [partial(make_outlet, output) for output in plan.outputs],
        make_encoder,
        stats,
        replace(
            retry_options(plan.live), tries=0
        ),  # an output is waited for as long as the camera runs
        timeout_s=plan.live.timeout_s,
    )


def _sound_maker(plan: CameraPlan) -> Callable[[Any], Sound]:
    from vderain.media.live.encode import LiveAudio
    from vderain.media.live.outlets import takes_sound

    def make(stream: Any) -> Sound:
        codec = str(stream.codec_context.codec.canonical_name)
        transcode = not all(takes_sound(output, codec) for output in plan.outputs)
        return LiveAudio(stream, transcode=transcode)

    return make
