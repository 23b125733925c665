"""Video, images and pipes as sources and sinks of frames; the only package that imports PyAV.

PyAV is imported when one of these functions is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vderain.errors import OptionError
from vderain.media.io.urls import shown
from vderain.options import EncodeOptions, RunOptions

if TYPE_CHECKING:
    from vderain.interfaces import FrameSink, FrameSource

__all__ = ["open_sink", "open_source", "probe_encoders"]


def open_source(path: str, *, run: RunOptions, encode: EncodeOptions) -> FrameSource:
    """Open a video file, a URL, standard input (``-``), an image or a folder of images.

    ``encode`` decides how interlaced and HDR video is treated. Raises SourceError and OptionError.
    """
    from vderain.media.stills.paths import is_image_path
    from vderain.media.stills.source import ImageSource

    if is_image_path(path):
        return ImageSource(path, run=run)
    from vderain.media.source import VideoSource

    if run.sequence:
        raise OptionError(
            f"sequence=True: is for a folder of images; {shown(path)} is a video, whose frames are one anyway"
        )
    return VideoSource(path, run=run, encode=encode)


def open_sink(path: str, source: FrameSource, options: EncodeOptions) -> FrameSink:
    """Open the output for a source: a video file, standard output (``-``), an image or a folder.

    Raises SinkError and OptionError before anything is written.
    """
    from vderain.media.stills.paths import is_image_path
    from vderain.media.stills.sink import ImageSink

    if is_image_path(path):
        return ImageSink(path, source, options)
    from vderain.media.sink import VideoSink

    return VideoSink.to(path, source, options)


def probe_encoders() -> list[tuple[str, bool, str]]:
    """(name, whether it opens here, "" or the reason) of every encoder of ``EncodeOptions.codec``."""
    from vderain.media.io.encoders import probe_encoders as probe_all

    return probe_all()
