"""The library: derain a file, or frames that are already in memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from vderain.clips import upright_clip
from vderain.engines import open_engine
from vderain.frames import Frame, PlaneFormat
from vderain.interfaces import EngineSpec
from vderain.media import open_sink, open_source
from vderain.options import EncodeOptions, EngineOptions, RunOptions, decoding_for
from vderain.pipeline import Progress, derain
from vderain.report import RunReport


def derain_file(
    rainy: str | Path,
    dry: str | Path,
    *,
    run: RunOptions | None = None,
    engine: EngineOptions | None = None,
    encode: EncodeOptions | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunReport:
    """Write ``rainy`` without its rain to ``dry``: a video, an image or a folder of images, or "-".

    Every other track is copied; what could not come through is named in the report's ``losses``.
    Raises SourceError, SinkError, OptionError, WeightsError, EngineBuildError, EngineLoadError; ``dry``
    then is as it was before.
    """
    run, engine, encode = run or RunOptions(), engine or EngineOptions(), encode or EncodeOptions()
    run = decoding_for(run, engine)
    with closing(open_source(str(rainy), run=run, encode=encode)) as source:
        sink = open_sink(str(dry), source, encode)
        try:
            pool = open_engine(engine)
        except BaseException:
            sink.abort()
            raise
        with closing(pool):
            return derain(source, pool, sink, options=run, on_progress=on_progress)


class Derainer:
    """Takes the rain out of images given as arrays; one engine for each size met.

    Example:
        >>> with Derainer() as derainer:
        ...     dry = derainer(rainy)  # (H, W, 3) uint8 or uint16, RGB

    """

    def __init__(self, options: EngineOptions | None = None, *, strength: float = 1.0) -> None:
        self._strength = RunOptions(strength=strength).strength
        self._engine = open_engine(options or EngineOptions())

    def __call__(self, rainy: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(H, W, 3) RGB or (H, W) grey, uint8 or uint16 -> the same shape and dtype without rain.

        Raises ValueError for any other array.
        """
        fmt = _array_format(rainy)
        planes = (
            tuple(np.ascontiguousarray(rainy[..., i]) for i in range(3))
            if rainy.ndim == 3
            else (rainy,)
        )
        frame = Frame(planes, fmt, pts=0, time_base=Fraction(1))
        clip = upright_clip(frame, self._engine.window.seen_frames)
        dry = self._engine.submit(clip, strength=self._strength).result()
        return np.stack(dry, -1) if rainy.ndim == 3 else dry[0]

    def spec_for(self, rainy: npt.NDArray[Any]) -> EngineSpec:
        """Which engine serves arrays of this shape and dtype."""
        return self._engine.open(_array_format(rainy))

    def close(self) -> None:
        """Release the engines."""
        self._engine.close()

    def __enter__(self) -> Derainer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _array_format(rainy: npt.NDArray[Any]) -> PlaneFormat:
    depths = {"uint8": 8, "uint16": 16}
    grey, rgb = rainy.ndim == 2, rainy.ndim == 3 and rainy.shape[2] == 3
    if str(rainy.dtype) not in depths or not (grey or rgb):
        raise ValueError(
            f"need (H, W, 3) RGB or (H, W) grey of uint8 or uint16, got {rainy.shape} {rainy.dtype}"
        )
    height, width = rainy.shape[:2]
    return PlaneFormat(
        "rgb" if rgb else "gray", width, height, depths[str(rainy.dtype)], full_range=True
    )
