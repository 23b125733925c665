"""How fast each stage of a run is by itself, and all together: what ``vderain engine bench`` prints."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vderain.clips import clips
from vderain.engines import open_engine
from vderain.engines.backends.openvino import OpenVinoBackend
from vderain.engines.backends.operators import OperatorTime
from vderain.engines.engine import frame_flop
from vderain.engines.measure import frames_per_s, matrix_peak_flop_per_s
from vderain.engines.registry import ON_NVIDIA
from vderain.engines.resize import scaled_format
from vderain.engines.store.cache import EngineCache
from vderain.engines.tiers import with_tier
from vderain.errors import OptionError
from vderain.flow.workers import Workers
from vderain.frames import Frame, Plane, PlaneFormat
from vderain.interfaces import Engine, EngineSpec, SourceStats, StreamInfo, aligns
from vderain.media import open_sink, open_source
from vderain.options import EncodeOptions, EngineOptions, RunOptions, decoding_for
from vderain.pipeline import align_threads, derain
from vderain.weights import find_weights

if TYPE_CHECKING:
    from vderain.engines.backends.device import CudaDevice

_RATE = Fraction(25)
_FRAMES = 50  # of the clip that is decoded and encoded


@dataclass(frozen=True, slots=True)
class Bench:
    """Frames per second of each stage alone and of a whole run, and what the network reaches."""

    format: str
    engine: str
    precision: str
    device: str
    rates: dict[str, float]
    limiting_stage: str
    tflop_per_s: float
    peak_tflop_per_s: float
    peak_precision: str
    notes: tuple[str, ...]
    run_notes: tuple[str, ...] = ()  # of the run end to end: fallbacks of decoder and encoder
    operators: tuple[OperatorTime, ...] = ()  # the longest first; empty without ``profile``

    @property
    def share_of_peak(self) -> float:
        """Of the matrix product's rate; the FLOP are those that the engine computes, joins folded."""
        return self.tflop_per_s / self.peak_tflop_per_s if self.peak_tflop_per_s else 0.0

    @property
    def convolution_share(self) -> float:
        """Of the time of all operators."""
        return sum(operator.share for operator in self.operators if operator.is_convolution)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "share_of_peak": self.share_of_peak}


def bench(
    options: EngineOptions,
    encode: EncodeOptions,
    fmt: PlaneFormat,
    seconds: float,
    *,
    run: RunOptions | None = None,
    profile: bool = False,
) -> Bench:
    """Measure at one size; upload and download are the copies on both sides of the engine.

    With ``profile`` the network is also measured by kind of operator. Raises OptionError where its engine has no
    counters for that.
    """
    options = with_tier(options)
    run = decoding_for(run or RunOptions(), options)
    _, card = find_weights(options.tier, options.weights)
    with tempfile.TemporaryDirectory() as folder, closing(open_engine(options)) as engine:
        clip, out = Path(folder) / "clip.mkv", Path(folder) / "out.mkv"
        encode = replace(encode, overwrite=True)
        written = _write_clip(clip, fmt, encode)
        spec = engine.open(fmt)
        operators = _operators(spec, options, fmt, seconds) if profile else ()
        gpu = _gpu(spec, options)
        rates = {
            "decode": _decode_rate(clip, run),
            **_align_rates(engine, fmt, spec, align_threads(run)),
            "upload": _copy_rate(_sent_shapes(engine, fmt, spec), fmt.dtype, gpu),
            "network": frames_per_s(engine, fmt, seconds),
            "download": _copy_rate(
                fmt.plane_shapes, fmt.dtype if gpu else np.float32, gpu, back=True
            ),
            "encode": written,
        }
        rates["end to end"], run_notes = _end_to_end_rate(clip, out, engine, encode, seconds, run)
        spec = engine.open(fmt)
    folded = spec.name != "reference"
    flop = frame_flop(card.config, fmt, folded=folded) * options.scale**2
    where = gpu.torch_device if gpu is not None else None
    peak, precision = matrix_peak_flop_per_s(where, spec.precision)
    stages = [name for name in ("decode", "align", "network", "encode") if name in rates]
    return Bench(
        format=str(fmt),
        engine=spec.name,
        precision=spec.precision,
        device=spec.device,
        rates={name: round(rate, 2) for name, rate in rates.items()},
        limiting_stage=min(stages, key=lambda stage: rates[stage]),
        tflop_per_s=flop * rates["network"] / 1e12,
        peak_tflop_per_s=peak / 1e12,
        peak_precision=precision,
        notes=spec.notes,
        run_notes=run_notes,
        operators=operators,
    )


def _operators(
    spec: EngineSpec, options: EngineOptions, fmt: PlaneFormat, seconds: float
) -> tuple[OperatorTime, ...]:
    if spec.name != "openvino":
        raise OptionError(
            f"{spec.name} does not measure its operators; use engine='openvino' with profile"
        )
    weights, card = find_weights(options.tier, options.weights)
    backend = OpenVinoBackend(weights, card, options, EngineCache())
    return tuple(backend.operator_times(scaled_format(fmt, options.scale), seconds))


def _gpu(spec: EngineSpec, options: EngineOptions) -> CudaDevice | None:
    """The GPU that an engine runs on; None where it runs on none."""
    if spec.name not in ON_NVIDIA:
        return None
    from vderain.engines.backends.device import CudaDevice

    return CudaDevice(options.device)


def _images(fmt: PlaneFormat) -> list[tuple[Plane, ...]]:
    """A smooth image with noise that moves: neither easy nor impossible to encode."""
    rng = np.random.default_rng(0)
    planes = []
    for height, width in fmt.plane_shapes:
        ramp = np.linspace(40, 200, width)[None] + np.linspace(0, 30, height)[:, None]
        planes.append((ramp + rng.normal(0, 6, (height, width))).clip(16, 235).astype(fmt.dtype))
    return [tuple(np.roll(plane, 2 * shift, 1) for plane in planes) for shift in range(8)]


def _write_clip(path: Path, fmt: PlaneFormat, encode: EncodeOptions) -> float:
    """Encode the clip; returns frames per second."""
    source, since = _DrawnSource(fmt), time.monotonic()
    sink = open_sink(str(path), source, encode)
    try:
        for frame in source:
            sink.write(frame)
        sink.finish()
    except BaseException:
        sink.abort()
        raise
    return _FRAMES / (time.monotonic() - since)


class _DrawnSource:
    """``FrameSource`` of frames that are drawn beforehand."""

    template = None

    def __init__(self, fmt: PlaneFormat) -> None:
        size = fmt.width, fmt.height
        self.info = StreamInfo("drawn", *size, time_base=1 / _RATE, frame_rate=_RATE)
        self.stats = SourceStats()
        self._fmt = fmt
        self._images = _images(fmt)

    def __iter__(self) -> Iterator[Frame]:
        for index in range(_FRAMES):
            planes = self._images[index % len(self._images)]
            yield Frame(planes, self._fmt, pts=index, time_base=1 / _RATE)

    def cancel(self) -> None:
        """Nothing blocks."""

    def close(self) -> None:
        """Nothing is open."""


def _decode_rate(path: Path, run: RunOptions) -> float:
    since = time.monotonic()
    with closing(open_source(str(path), run=run, encode=EncodeOptions())) as source:
        frames = sum(isinstance(item, Frame) for item in source)
    return frames / (time.monotonic() - since)


def _align_rates(
    engine: Engine, fmt: PlaneFormat, spec: EngineSpec, threads: int
) -> dict[str, float]:
    """Frames per second of what the CPU does to align neighbours; nothing for a network of one frame."""
    if spec.frames == 1:
        return {}
    since = time.monotonic()
    placed = clips(_DrawnSource(fmt), spec.window, lambda: aligns(engine), Workers(threads))
    made = sum(1 for _ in placed)
    return {"align": made / (time.monotonic() - since)}


def _sent_shapes(engine: Engine, fmt: PlaneFormat, spec: EngineSpec) -> tuple[tuple[int, int], ...]:
    """(H, W) of the planes that an engine gets for a frame; one that aligns has its neighbours' luma already."""
    return fmt.plane_shapes if aligns(engine) else fmt.clip_shapes(spec.window.seen_frames)


def _copy_rate(
    shapes: Sequence[tuple[int, int]],
    dtype: npt.DTypeLike,
    gpu: CudaDevice | None,
    *,
    back: bool = False,
) -> float:
    """Frames per second of copying planes of these shapes: in the host's memory, or to a GPU and back from it."""
    planes = [np.zeros(shape, dtype) for shape in shapes]
    if gpu is not None:
        from vderain.engines.backends.device import transfers_per_s

        return transfers_per_s(gpu, planes, 0.2, back=back)
    targets = [np.empty_like(plane) for plane in planes]
    done, since = 0, time.monotonic()
    while time.monotonic() - since < 0.2:
        for target, plane in zip(targets, planes, strict=True):
            np.copyto(target, plane)
        done += 1
    return done / (time.monotonic() - since)


def _end_to_end_rate(
    clip: Path, out: Path, engine: Any, encode: EncodeOptions, seconds: float, run: RunOptions
) -> tuple[float, tuple[str, ...]]:
    """Frames per second of whole runs over the clip, as often as the time allows, and their notes."""
    frames, since = 0, time.monotonic()
    run_notes: dict[str, None] = {}
    while not frames or time.monotonic() - since < seconds:
        with closing(open_source(str(clip), run=run, encode=encode)) as source:
            sink = open_sink(str(out), source, encode)
            report = derain(source, engine, sink)
            frames += report.frames_out
            run_notes |= dict.fromkeys(report.notes)
    return frames / (time.monotonic() - since), tuple(run_notes)
