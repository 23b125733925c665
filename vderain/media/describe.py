"""Describes a file for ``vderain info``: its contents, its format for the network, and what an output would keep."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import av

from vderain.errors import SinkError, SourceError
from vderain.frames import Frame, PlaneFormat
from vderain.interfaces import StreamInfo
from vderain.media import open_source
from vderain.media.carry.belongings import Belongings
from vderain.media.carry.template import Template
from vderain.media.carry.timecode import TIMECODES
from vderain.media.carry.tracks import mirror
from vderain.media.frames.color import mastering_losses
from vderain.media.io.encoders import ENCODERS
from vderain.media.io.formats import Container, container_for
from vderain.media.io.open import can_reopen
from vderain.media.io.survey import clock_notes
from vderain.media.muxing import Muxer
from vderain.media.verify.facts import VIEW_WORDS, Facts, differences, lost_boxes
from vderain.options import EncodeOptions, RunOptions

_ACCEPT_ALL = EncodeOptions(hdr="keep", interlaced="deinterlace")


@dataclass(frozen=True, slots=True)
class TrackFate:
    """A track other than the video, and whether an output of the same container holds it."""

    track: str
    copied: bool


@dataclass(frozen=True, slots=True)
class Description:
    """The contents of an input for ``vderain info``.

    ``network_format`` is the format that the network takes, with matrix and range. ``refusal`` is why
    ``vderain run`` would need a further option, or "". ``tracks`` are all tracks other than the video, for an
    output in the container ``output``, and ``notes`` are known losses and changes.

    ``boxes`` are the contents of an MP4 or MOV file besides its tracks; ``losses`` are properties of its frames
    that such an output would not keep.
    """

    info: StreamInfo
    network_format: PlaneFormat
    refusal: str = ""
    output: str = ""
    tracks: tuple[TrackFate, ...] = ()
    notes: tuple[str, ...] = ()
    boxes: str = ""
    boxes_carried: bool = False
    losses: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON; fractions are left to the encoder's ``default``."""
        return asdict(self)


def describe(path: str) -> Description:
    """Describe a video, an image or a folder of images. Raises SourceError."""
    refusal = _refusal(path)
    with closing(open_source(path, run=RunOptions(), encode=_ACCEPT_ALL)) as source:
        first = next(item for item in source if isinstance(item, Frame))
        view = first.format.rotated(first.rotation // 90)
        if source.template is None:
            return Description(source.info, view, refusal, notes=tuple(source.stats.notes))
        container = _same_container(path)
        tracks, notes, carried = _fates(source.template, container)
        video = source.template.container.streams[source.template.video_index]
        notes = (*source.stats.notes, *clock_notes(path, video), *notes)
        left, lost = source.template.leftovers, ""
        belongings = Belongings(left, {}, container.muxer)
        if left is not None and belongings.can_graft:
            lost = lost_boxes(left, left.naming(carried))
            belongings = Belongings(left.naming(carried), {}, container.muxer)
        losses = (
            *source.stats.losses,
            *belongings.losses,
            *([lost] if lost else []),
            *_losses(source.template, container, belongings),
        )
        return Description(
            *(source.info, view, refusal, container.muxer, tracks, notes),
            *(belongings.boxes, belongings.can_graft, losses),
        )


def _refusal(path: str) -> str:
    if not can_reopen(path):  # a pipe cannot be read twice
        return ""
    try:
        open_source(path, run=RunOptions(), encode=EncodeOptions()).close()
    except SourceError as error:
        return str(error)
    return ""


def _same_container(path: str) -> Container:
    """The container of the input, by its extension; Matroska where that cannot be written."""
    try:
        return container_for(path, _ACCEPT_ALL)
    except SinkError:
        return container_for("any.mkv", _ACCEPT_ALL)


def _losses(template: Template, container: Container, belongings: Belongings) -> Iterator[str]:
    """Losses of an output by how and when its frames are shown."""
    yield from belongings.frame_losses
    yield from mastering_losses(template.mastering, ENCODERS[_ACCEPT_ALL.codec].name)
    if template.timecode and container.muxer not in TIMECODES:
        yield f"timecode inside the video stream (first {template.timecode})"
    video = template.container.streams[template.video_index]
    # Matroska has a tag for it, which is copied.
    keeps_stereo = container.muxer == "matroska" and "stereo_mode" in video.metadata
    views = template.views - {"STEREO3D"} if keeps_stereo else template.views
    facts = Facts.of(
        *(template.container, video), views=views, turned=False, chapters=0, leftovers=None
    )
    left = template.leftovers
    if left is not None and any(track.of_frames for track in left.tracks.values()):
        return  # the boxes include them, and are carried or named above
    yield from (
        line for word, line in differences(facts, Facts(facts.tags), None) if word in VIEW_WORDS
    )


def _fates(
    template: Template, container: Container
) -> tuple[tuple[TrackFate, ...], tuple[str, ...], frozenset[int]]:
    """The tracks of the input that an output in memory accepts, notes, and the numbers of all that it has."""
    with av.open(io.BytesIO(), "w", format=container.muxer) as trial:
        tracks = mirror(template, Muxer(trial), container, None, lambda: None)
    fates = (TrackFate(name, index in tracks.copied) for index, name in tracks.names.items())
    streams = template.container.streams
    carried = frozenset(streams[index].id for index in (*tracks.copied, template.video_index))
    return tuple(fates), tuple(tracks.notes), carried
