"""The containers that can be written, and what each can hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import lcm
from pathlib import PurePath

from vderain.errors import SinkError
from vderain.options import EncodeOptions

STANDARD_STREAM = "-"
_MAX_TIMESCALE = 2**31 - 1
# Keys that players read from MP4; other keys need the key-value store, which few players read.
MP4_KEYS = frozenset(
    {
        *("title", "artist", "album_artist", "composer", "album", "date", "year", "comment"),
        *("genre", "copyright", "lyrics", "description", "synopsis", "show", "episode_id"),
        *("network", "keywords", "grouping", "track", "disc", "creation_time", "compilation"),
        *("rating", "hd_video", "media_type", "gapless_playback", "season_number"),
        "episode_sort",
    }
)
_CONTAINER_KEYS = frozenset(
    {
        *("major_brand", "minor_version", "compatible_brands", "encoder", "duration", "bps"),
        *("number_of_frames", "number_of_bytes", "_statistics_writing_app", "_statistics_tags"),
        *("_statistics_writing_date_utc", "variant_bitrate"),
    }
)


_LIBRARY = "Lavf"  # FFmpeg's


@dataclass(frozen=True, slots=True)
class Container:
    """One container format, by FFmpeg's name of its muxer.

    Attributes:
        codecs: values of ``EncodeOptions.codec`` that it holds and that players expect in it.
        rotates: whether the display matrix is written.
        negative_times: whether a track may begin before zero; otherwise all tracks are moved.
        timestamps: False where it stores a frame rate and no times.
        late_start: whether players begin at the first time, however late; otherwise they wait for it.
        early_start: whether video before zero is shown.
        clock_s: when its clock starts again from zero; None for never.
        blu_ray: whether it is the MPEG-TS of Blu-ray and AVCHD: packets of 192 bytes, and its own kinds of tracks.

    """

    muxer: str
    codecs: tuple[str, ...]
    rotates: bool = False
    attachments: bool = False
    negative_times: bool = False
    timestamps: bool = True
    late_start: bool = True
    early_start: bool = False
    clock_s: Fraction | None = None
    blu_ray: bool = False

    @property
    def kinds_options(self) -> dict[str, str]:
        """Options of the muxer on which it depends what tracks it holds."""
        return {"mpegts_m2ts_mode": "1"} if self.blu_ray else {}


_MP4 = Container(
    *("mp4", ("h264", "hevc", "av1")), rotates=True, negative_times=True, late_start=False
)
_MATROSKA = Container(
    "matroska", ("h264", "hevc", "av1", "ffv1"), rotates=True, attachments=True, negative_times=True
)
_TS = Container("mpegts", ("h264", "hevc"), clock_s=Fraction(2**33, 90_000))
_Y4M = Container("yuv4mpegpipe", ("rawvideo",), timestamps=False)
_BY_EXTENSION = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": replace(_MP4, muxer="mov", codecs=("h264", "hevc")),
    ".mkv": _MATROSKA,
    ".webm": Container("webm", ("av1",), rotates=True),
    ".ts": _TS,
    ".mts": replace(_TS, blu_ray=True),
    ".m2ts": replace(_TS, blu_ray=True),
    ".avi": Container("avi", ("h264", "ffv1"), timestamps=False),
    ".y4m": _Y4M,
}


def container_for(path: str, options: EncodeOptions) -> Container:
    """The container of an output, by its extension; for ``-``, ``options.pipe_format``.

    Raises SinkError for an extension that is no video container, or one that cannot hold the codec.
    """
    if path == STANDARD_STREAM:
        return _Y4M if options.pipe_format == "y4m" else _MATROSKA
    extension = PurePath(path).suffix
    container = _BY_EXTENSION.get(extension.lower())
    if container is None:
        raise SinkError(
            f"{path}: {extension or 'a name without extension'} is no video format that can be"
            f" written; use one of {' '.join(_BY_EXTENSION)}"
        )
    codec = options.codec.removesuffix("_nvenc")
    if container is not _Y4M and codec not in container.codecs:
        known = " or ".join(f"codec={name!r}" for name in container.codecs)
        raise SinkError(
            f"{path}: {extension} cannot hold {codec}; use {known},"
            f" or an output that ends in {' or '.join(_extensions_for(codec))}"
        )
    return container


def _extensions_for(codec: str) -> list[str]:
    return [name for name, container in _BY_EXTENSION.items() if codec in container.codecs]


def muxer_options(
    container: Container, metadata: dict[str, str], time_base: Fraction, *, is_changed: bool = False
) -> dict[str, str]:
    """Options of the muxer; in MP4 for an index at the front, and a store for unusual keys.

    ``is_changed`` where the complete file gets its tags, and its index at the front, by other means.
    """
    if container.muxer in ("matroska", "nut"):
        # Sound that begins before zero (the run-up of AAC) stays there; otherwise all tracks would be moved.
        return {"avoid_negative_ts": "disabled"}
    if container.muxer == "yuv4mpegpipe":
        return {"strict": "-1"}  # more than 8 bits are an extension of the format
    if container.muxer not in ("mp4", "mov"):
        return container.kinds_options
    flags = "" if is_changed else "+faststart"
    if not is_changed and not {key.lower() for key in metadata} <= MP4_KEYS:
        flags += "+use_metadata_tags"
    # The unit of a track's start is that of the movie, by default a millisecond.
    unit = lcm(1000, time_base.denominator)
    return {
        "movflags": flags or "0",
        "movie_timescale": str(unit if unit <= _MAX_TIMESCALE else 1000),
    }


def portable_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """The tags without those that describe the old file rather than its content."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower().split("-")[0] not in _CONTAINER_KEYS and not _names_writer(key, value)
    }


def _names_writer(key: str, value: str) -> bool:
    """Whether a tag of AVI has the name of the library that wrote the file; cameras have their own name there."""
    return key.lower() == "software" and value.startswith(_LIBRARY)
