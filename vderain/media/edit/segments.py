"""Writes segments of a video to files of their own, until the whole is assembled."""

from __future__ import annotations

from dataclasses import replace

from vderain.frames import Frame, PassedPacket
from vderain.interfaces import FrameSource, SinkReport
from vderain.media.encoding import Encoding
from vderain.media.io.formats import Container
from vderain.media.output import Output
from vderain.media.sink import VideoSink
from vderain.media.span import FrameSpan
from vderain.options import EncodeOptions

# NUT holds every time base and time exactly, and all codecs of vderain.
_INTERMEDIATE = Container(
    *("nut", ("h264", "hevc", "av1", "ffv1")), rotates=True, negative_times=True, early_start=True
)
OFFSET_TAG = "pts_offset"  # is added to the times in an intermediate file
# By default x264 uses all cores of the machine, and its output depends on their number.
_ENCODER_THREADS = 4


class SegmentSink:
    """FrameSink of one segment: writes its frames to an intermediate file and drops everything else.

    The file keeps times exactly, whatever its ``time_base``; times before zero are moved by its tag OFFSET_TAG. It
    replaces one of the same name when it is complete. It begins with an image that refers to none before, and
    all its GOPs are closed. Everything else of the source goes into the assembled output. Raises SinkError and
    OptionError.
    """

    def __init__(
        self, path: str, source: FrameSource, encode: EncodeOptions, span: FrameSpan
    ) -> None:
        self._span = span
        self._output = Output(path, _INTERMEDIATE, info=source.info, template=None, overwrite=True)
        self._encoding = Encoding(
            replace(encode, overwrite=True),
            _INTERMEDIATE,
            info=source.info,
            template=source.template,
            report=self._output.report,
            closed_gops=True,
            threads=_ENCODER_THREADS,  # segments of a clip may be made on several machines
        )
        self._sink = VideoSink(self._output, self._encoding)

    @property
    def takes_device_planes(self) -> bool:
        """Whether frames may be on the GPU, to be encoded there."""
        return self._sink.takes_device_planes

    def write(self, item: Frame | PassedPacket) -> None:
        """Encode a frame of the segment."""
        if not isinstance(item, Frame) or item.pts not in self._span:
            return
        if not self._encoding.begun and item.pts < 0:  # NUT holds no times before zero
            self._encoding.shift_s = -item.pts * item.time_base
            self._output.tag(OFFSET_TAG, str(item.pts))
        self._sink.write(item)

    def finish(self) -> SinkReport:
        """Flush, complete the file, give it its name."""
        return self._sink.finish()

    def abort(self) -> None:
        """Remove what was written; does nothing after ``finish``."""
        self._sink.abort()
