"""Segments of a video in files of their own, until the whole is assembled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from vderain.frames import ColorTags, Frame, PassedPacket
from vderain.interfaces import FrameSource
from vderain.media.io.formats import Container
from vderain.media.sink import VideoSink
from vderain.media.span import FrameSpan
from vderain.options import EncodeOptions

# Holds every time base and time exactly, and all that is encoded here.
_INTERMEDIATE = Container(
    *("nut", ("h264", "hevc", "av1", "ffv1")), rotates=True, negative_times=True, early_start=True
)
OFFSET_TAG = "pts_offset"  # what is to be added to the times in an intermediate file
# By itself x264 takes as many as the machine has, and with them other decisions.
_ENCODER_THREADS = 4


class SegmentSink(VideoSink):
    """FrameSink of one segment: its frames go into an intermediate file, others are dropped.

    The file keeps times exactly, those before zero moved by its tag OFFSET_TAG, whatever its own
    ``time_base``, and replaces one of the same name when it is
    complete. It begins with a picture that refers to nothing before, and all its groups are closed.
    Raises SinkError and OptionError.
    """

    _extra_options: ClassVar[dict[str, str]] = {"flags": "+cgop"}
    _carries = False

    def __init__(
        self, path: str, source: FrameSource, encode: EncodeOptions, span: FrameSpan
    ) -> None:
        self._span = span
        super().__init__(path, source, replace(encode, overwrite=True))

    def write(self, item: Frame | PassedPacket) -> None:
        """Encode a frame of the segment."""
        if isinstance(item, Frame) and item.pts in self._span:
            super().write(item)

    def _start(self, frame: Frame) -> None:
        """Begin the file; NUT holds no times before zero, so these are moved, and it says how far."""
        self._offset = min(0, frame.pts)
        if self._offset:
            self._output.metadata[OFFSET_TAG] = str(self._offset)
        super()._start(frame)

    def _tell_encoder(self, context: Any, tags: ColorTags) -> None:
        """Also how many threads: segments of a clip may be made on several machines."""
        super()._tell_encoder(context, tags)
        context.thread_type, context.thread_count = "FRAME", _ENCODER_THREADS

    def _time_of(self, frame: Frame) -> int:
        return frame.pts - self._offset

    def _container_for(self, path: str, options: EncodeOptions) -> Container:
        return _INTERMEDIATE

    def _add_streams(self) -> None:
        self._add_video()
