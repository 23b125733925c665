"""A source cut into three parts, and what tests need to put together and compare."""

from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise

import av

from tests.media import synth
from vderain.media.bitstream.nal import NalFormat
from vderain.media.edit.assemble import Copied, Encoded
from vderain.media.edit.segments import SegmentSink
from vderain.media.io.index import index_video
from vderain.media.source import VideoSource
from vderain.media.span import FrameSpan
from vderain.options import EncodeOptions, RunOptions

UNEVEN = tuple(synth.STEP * index + (900 if index % 3 else 0) for index in range(40))
VIDEOS = {
    "h264": {"codec": "libx264", "options": {"g": "10", "bf": "0"}},
    "h264-b": {"codec": "libx264", "options": {"g": "10", "bf": "2"}},
    "h264-open": {
        "codec": "libx264",
        "options": {"g": "10", "bf": "2", "x264-params": "open-gop=1:scenecut=0"},
    },
    "hevc-b": {
        "codec": "libx265",
        "options": {"x265-params": "keyint=10:min-keyint=10:bframes=3:open-gop=0:log-level=none"},
    },
    "hevc-cra": {
        "codec": "libx265",
        "options": {"x265-params": "keyint=10:min-keyint=10:bframes=0:open-gop=1:log-level=none"},
    },
    "hevc-open": {
        "codec": "libx265",
        "options": {
            "x265-params": "keyint=10:min-keyint=10:bframes=3:b-adapt=0:scenecut=0:open-gop=1"
            ":log-level=none"
        },
    },
}


def encode_for(kind, **options):
    return EncodeOptions(codec=kind.split("-")[0], overwrite=True, **options)


def make(path, kind, **changes):
    return synth.write(path, **{**VIDEOS[kind], "pts": UNEVEN, **changes})


def frames(path, start_pts=None, end_pts=None, *, before=0, after=0, encode=None):
    """(pts, samples of luma) of the frames of a segment."""
    span = FrameSpan(start_pts, end_pts, before, after)
    with closing(
        VideoSource(str(path), run=RunOptions(), encode=encode or EncodeOptions(), span=span)
    ) as source:
        return [(frame.pts, frame.planes[0].tobytes()) for frame in source]


def darker(frame):
    return replace(frame, planes=(frame.planes[0] // 2, *frame.planes[1:]))


def derain(source, path, start_pts, end_pts, encode):
    """Write a segment with a change that every frame shows; returns the report."""
    span = FrameSpan(start_pts, end_pts, before=2, after=1)
    with closing(VideoSource(source, run=RunOptions(), encode=encode, span=span)) as frames_in:
        sink = SegmentSink(str(path), frames_in, encode, span)
        for frame in frames_in:
            sink.write(darker(frame))
        return sink.finish()


@dataclass
class Cut:
    """A source in three spans of whole groups, each also as a derained segment."""

    source: str
    index: object
    spans: list
    segments: list
    encode: EncodeOptions

    def pieces(self, plan):
        """Pieces for a word like "wdw": w is a derained span, d one that is copied."""
        return [
            Encoded(str(segment)) if letter == "w" else Copied(*span)
            for letter, span, segment in zip(plan, self.spans, self.segments, strict=True)
        ]

    def expected(self, plan):
        """The decoded frames that an assembled file must show."""
        shown = synth.decoded_frames(self.source)
        result = []
        for letter, segment in zip(plan, self.segments, strict=True):
            derained = synth.decoded_frames(segment)
            copied = shown[len(result) : len(result) + len(derained)]
            result += derained if letter == "w" else copied
        return [image.to_ndarray() for image in result]


def cut(folder, kind, extension, **changes):
    source = make(folder / f"source.{extension}", kind, **changes)
    index = index_video(source)
    gops = index.gops
    edges = [gops[0].start_pts, gops[1].start_pts, gops[3].start_pts, gops[-1].end_pts]
    spans = list(pairwise(edges))
    segments = [folder / f"{number}.nut" for number in range(3)]
    encode = encode_for(kind)
    for span, segment in zip(spans, segments, strict=True):
        derain(source, segment, *span, encode)
    return Cut(source, index, spans, segments, encode)


def assert_shows(path, expected):
    shown = [image.to_ndarray() for image in synth.decoded_frames(path)]
    assert len(shown) == len(expected)
    wrong = [i for i, (a, b) in enumerate(zip(shown, expected, strict=True)) if (a != b).any()]
    assert not wrong


def slices(path):
    """The NAL units with samples of every packet, without their headers."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        nals = NalFormat.of(context.codec.canonical_name, context.extradata)
        return [
            [unit[1:] for unit in nals.split(bytes(packet)) if nals.is_slice(unit)]
            for packet in container.demux(stream)
            if packet.size
        ]
