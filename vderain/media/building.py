"""Decoded pictures become frames; the first of them tells what the output mirrors."""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any

import av

from vderain.errors import SourceError
from vderain.frames import ColorTags, Frame
from vderain.interfaces import SourceStats
from vderain.media.carry.messages import messages_of, timecode_of
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


class FrameBuilder:
    """Makes frames of one stream's pictures; raises SourceError for HDR where ``hdr`` is "refuse".

    Attributes:
        mastering, display_matrix, timecode: of the first picture.
        views: the names of its side data.

    """

    def __init__(self, stream: Any, name: str, stats: SourceStats, *, hdr: str) -> None:
        self._name, self._stats, self._hdr = name, stats, hdr
        self._reader = PlaneReader(functools.partial(_note_copy, stats.notes))
        self._chroma_location = chroma_location(stream)
        self._learnt = False
        self.display_matrix: tuple[int, ...] | None = None
        self.mastering = Mastering()
        self.timecode: str | None = None
        self.views: frozenset[str] = frozenset()

    @property
    def note(self) -> str:
        """What was converted, for the report; "" for nothing."""
        return self._reader.note

    def build(
        self, picture: av.VideoFrame, pts: int, time_base: Fraction, *, discontinuity: bool
    ) -> Frame:
        """The frame of a picture."""
        tags = color_tags(picture, self._chroma_location)
        if not self._learnt:
            self._learn(picture, tags)
        side_data = side_data_of(picture)
        if picture.key_frame:
            self._stats.lose(side_data_losses(side_data))
        planes, alpha, layout = self._reader.read(picture, tags)
        return Frame(
            planes,
            layout,
            pts,
            time_base,
            duration=picture.duration or 0,
            alpha=alpha,
            tags=tags,
            rotation=_quarter_turns(picture) * 90,
            discontinuity=discontinuity,
            messages=messages_of(side_data),
        )

    def _learn(self, picture: av.VideoFrame, tags: ColorTags) -> None:
        kind = hdr_name(tags)
        if kind and self._hdr == "refuse":
            raise SourceError(
                f"{self._name}: is HDR video ({kind}), which this network was not trained on;"
                " use hdr='keep' to go on all the same"
            )
        self._learnt = True
        self.mastering = mastering(picture)
        self.display_matrix = display_matrix(picture)
        side_data = side_data_of(picture)
        self.timecode = timecode_of(side_data)
        self.views = frozenset(data.type.name for data in side_data)


def _note_copy(notes: list[str]) -> None:
    """A picture came down from the GPU; may be another stage's doing, and after the end."""
    note = "NVDEC's pictures were copied to the host, where the engine, the encoder or the alignment wants them"
    if note not in notes:
        notes.append(note)


def _quarter_turns(picture: av.VideoFrame) -> int:
    """Quarter turns counter-clockwise that the display matrix asks for."""
    return round(picture.rotation / 90) % 4
