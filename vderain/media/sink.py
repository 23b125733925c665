"""Video out: encodes frames, passes other packets on, and names the file when it is complete."""

from __future__ import annotations

from typing import Any

from vderain.errors import SinkError
from vderain.files import refuse_name
from vderain.frames import Frame, PassedPacket
from vderain.interfaces import FrameSource, SinkReport
from vderain.media.encoding import Encoding
from vderain.media.io.formats import container_for
from vderain.media.output import Output
from vderain.options import EncodeOptions


class VideoSink:
    """FrameSink that encodes frames into an output and passes other packets on.

    Raises SinkError and OptionError.

    Args:
        output: a file or a pipe; opened here.
        encoding: makes the packets of its video.

    """

    def __init__(self, output: Output, encoding: Encoding) -> None:
        self._output, self._encoding = output, encoding
        output.open(
            encoding.encoder.codec,
            encoding.add_to,
            holds_pixel_shape=encoding.encoder.pixel_shape,
        )

    @classmethod
    def to(cls, path: str, source: FrameSource, options: EncodeOptions) -> VideoSink:
        """A sink that writes a video file, or a stream to standard output (``-``).

        Everything known in advance is checked here: name, container, codec, whether the encoder opens, and
        which tracks the container holds.
        """
        refuse_name(path, SinkError)
        container = container_for(path, options)
        about: dict[str, Any] = {"info": source.info, "template": source.template}
        output = Output(path, container, **about, overwrite=options.overwrite)
        report, shift_s = output.report, output.shift_s
        encoding = Encoding(options, container, **about, report=report, shift_s=shift_s)
        return cls(output, encoding)

    @property
    def takes_device_planes(self) -> bool:
        """Whether frames may be on the GPU, to be encoded there."""
        return self._encoding.takes_device_planes

    def write(self, item: Frame | PassedPacket) -> None:
        """Encode a frame, or pass a packet on; packets before the first frame wait for it."""
        with self._output.failing():
            if isinstance(item, PassedPacket):
                self._output.carry(item)
            else:
                self._encode(item)

    def finish(self) -> SinkReport:
        """Flush the encoder, complete the container, give it its name."""
        output, encoding = self._output, self._encoding
        if not output.report.frames:
            raise SinkError(f"{output.report.path}: not one frame came, so no output was made")
        with output.failing():
            output.mux(encoding.finished(encoding.encode(None)))
        encoding.conclude()
        return output.finish()

    def abort(self) -> None:
        """Remove what was written; does nothing after ``finish``."""
        self._output.abort()

    def _encode(self, frame: Frame) -> None:
        output, encoding = self._output, self._encoding
        if not encoding.begun:
            output.frames_stay = encoding.begin(frame)
            if not encoding.needs_image:
                self._begin()
        image = encoding.image(frame)
        pts, duration = image.pts, image.duration
        packets = encoding.encode(image)
        if not output.begun:
            self._begin()
        output.mux(encoding.finished(packets))
        output.note_frame(pts, duration, encoding.time_base)

    def _begin(self) -> None:
        self._encoding.complete_header()
        self._output.begin()
