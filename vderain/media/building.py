"""Makes frames of decoded images, and reads from the first image what the output keeps."""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any

import av

from vderain.errors import SourceError
from vderain.frames import ColorTags, DevicePlanes, Frame
from vderain.interfaces import SourceStats, StreamInfo
from vderain.media.carry.messages import Message, messages_of, timecode_of
from vderain.media.frames.color import (
    Mastering,
    chroma_location,
    color_tags,
    hdr_name,
    mastering,
    side_data_losses,
    side_data_of,
)  # fmt: skip
from vderain.media.frames.planes import PlaneReader, display_matrix
from vderain.media.frames.untrained import hdr_refusal
from vderain.media.io.open import codec_name, describe_track
from vderain.media.io.urls import shown


class FrameBuilder:
    """Makes frames of one stream's images; raises SourceError for HDR where ``hdr`` is "refuse".

    Attributes:
        mastering, display_matrix, timecode: of the first image.
        views: the names of the first image's side data.
        gpu: the number of the GPU that the first image lies on; None for one in host memory.

    """

    def __init__(self, stream: Any, name: str, stats: SourceStats, *, hdr: str) -> None:
        self._name, self._stats, self._hdr = name, stats, hdr
        self._reader = PlaneReader(functools.partial(_note_copy, stats.notes))
        self._chroma_location = chroma_location(stream)
        self._has_first = False
        self.display_matrix: tuple[int, ...] | None = None
        self.mastering = Mastering()
        self.timecode: str | None = None
        self.views: frozenset[str] = frozenset()
        self.gpu: int | None = None

    @property
    def note(self) -> str:
        """The conversion, for the report; "" where nothing was converted."""
        return self._reader.note

    def build(
        self,
        image: av.VideoFrame,
        pts: int,
        time_base: Fraction,
        *,
        discontinuity: bool,
        messages: tuple[Message, ...] = (),
    ) -> Frame:
        """The frame of an image; ``messages`` are those that do not come with it."""
        tags = color_tags(image, self._chroma_location)
        is_first = not self._has_first
        if is_first:
            self._read_first(image, tags)
        side_data = side_data_of(image)
        if image.key_frame:
            self._stats.lose(side_data_losses(image, side_data))
        planes, alpha, layout = self._reader.read(image, tags)
        if is_first and isinstance(planes, DevicePlanes):
            self.gpu = planes.device[1]
        return Frame(
            planes,
            layout,
            pts,
            time_base,
            duration=image.duration or 0,
            alpha=alpha,
            tags=tags,
            rotation=_quarter_turns(image) * 90,
            discontinuity=discontinuity,
            messages=(*messages_of(side_data), *messages),
        )

    def _read_first(self, image: av.VideoFrame, tags: ColorTags) -> None:
        kind = hdr_name(tags)
        if kind and self._hdr == "refuse":
            raise SourceError(hdr_refusal(self._name, kind))
        self._has_first = True
        self.mastering = mastering(image)
        self.display_matrix = display_matrix(image)
        side_data = side_data_of(image)
        self.timecode = timecode_of(side_data)
        self.views = frozenset(data.type.name for data in side_data)


def _note_copy(notes: list[str]) -> None:
    """Note that an image was copied from the GPU to the host; called by any stage, even after the end."""
    note = "NVDEC's images were copied to the host, where the engine, the encoder or the alignment wants them"
    if note not in notes:
        notes.append(note)


def _quarter_turns(image: av.VideoFrame) -> int:
    """Quarter turns counter-clockwise by the display matrix."""
    return round(image.rotation / 90) % 4


def stream_info(
    container: Any,
    stream: Any,
    path: str,
    first: Frame,
    *,
    rate: Fraction | None,
    frames: int | None,
    length_s: Fraction | None,
    pix_fmt: str,
) -> StreamInfo:
    """Properties of a video before its run, from its container and its first frame."""
    return StreamInfo(
        path=shown(path),
        width=first.format.width,
        height=first.format.height,
        time_base=first.time_base,
        frame_rate=rate,
        frames=frames,
        duration_s=None if length_s is None else float(length_s),
        codec=codec_name(stream),
        pix_fmt=pix_fmt,
        container=container.format.name,
        rotation=first.rotation,
        sample_aspect_ratio=Fraction(stream.sample_aspect_ratio or 1),
        tags=first.tags,
        tracks=tuple(describe_track(one) for one in container.streams),
    )
