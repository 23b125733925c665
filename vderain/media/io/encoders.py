"""The video encoders: names, defaults, limits, whether they open here, and what fits a frame."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av

from vderain.errors import OptionError, SinkError
from vderain.frames import Layout, PlaneFormat
from vderain.media.frames.color import Mastering, svt_parameters, x265_parameters
from vderain.media.frames.planes import Target, pix_fmt_name
from vderain.media.io.ffmpeg import heard, said
from vderain.media.io.urls import redact
from vderain.options import EncodeOptions

_X26X_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
# CPU time relative to the default's, measured by benchmarks/presets.py: means of the table in RESULTS.md.
_X264_COSTS = {"veryfast": 0.68, "faster": 1.0, "fast": 1.32, "medium": 1.68, "slow": 2.7}
_NVENC_PRESETS = tuple(f"p{number}" for number in range(1, 8))


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder of FFmpeg and its properties.

    Attributes:
        name: FFmpeg's name.
        codec: value of ``EncodeOptions.codec``.
        crf, max_crf: default and largest quality value, None where there is none.
        preset, presets: default and possible presets.
        costs: CPU time of presets relative to the default's, where it was measured; without those that need half
            again as many bits for the same quality.
        min_size: smallest width and height in pixels.
        odd_sizes: whether 4:2:0 and 4:2:2 may have odd widths and heights.
        alpha: whether transparency is kept.
        pixel_shape: whether the stream itself stores the pixel shape.

    """

    name: str
    codec: str
    crf: int | None = None
    max_crf: int = 51
    preset: str | None = None
    presets: tuple[str, ...] = ()
    costs: Mapping[str, float] = field(default_factory=dict)
    min_size: int = 1
    odd_sizes: bool = False
    alpha: bool = False
    pixel_shape: bool = False


# Defaults of crf and preset; the help of EncodeOptions repeats them, and a test compares both.
ENCODERS = {
    encoder.codec: encoder
    for encoder in (
        Encoder(
            *("libx264", "h264", 17, 51, "faster", _X26X_PRESETS),
            costs=_X264_COSTS,
            pixel_shape=True,
        ),
        Encoder("libx265", "hevc", 19, 51, "fast", _X26X_PRESETS, min_size=16, pixel_shape=True),
        Encoder(
            *("libsvtav1", "av1", 24, 63, "8", tuple(str(number) for number in range(-1, 14))),
            min_size=32,  # SVT-AV1 4.1 sometimes crashes below about 25
            odd_sizes=True,
        ),
        Encoder("ffv1", "ffv1", odd_sizes=True, alpha=True),
        Encoder("rawvideo", "rawvideo", odd_sizes=True),
        # Some generations of the hardware do not open for smaller images.
        Encoder("h264_nvenc", "h264_nvenc", 17, 51, "p5", _NVENC_PRESETS, min_size=160),
        Encoder("hevc_nvenc", "hevc_nvenc", 19, 51, "p5", _NVENC_PRESETS, min_size=160),
        Encoder("av1_nvenc", "av1_nvenc", 24, 63, "p5", _NVENC_PRESETS, min_size=192),
    )
}
# Replacements of a layout, nearest first; those that hold less come last.
_LAYOUTS: dict[Layout, tuple[Layout, ...]] = {
    "yuv420": ("yuv420", "yuv422", "yuv444"),
    "yuv422": ("yuv422", "yuv444", "yuv420"),
    "yuv440": ("yuv440", "yuv444", "yuv420"),
    "yuv444": ("yuv444", "yuv422", "yuv420"),
    "gray": ("gray", "yuv420"),
    "rgb": ("rgb", "yuv444", "yuv420"),
}
_CHROMA_SHARE: dict[Layout, int] = {
    "gray": 0, "yuv420": 1, "yuv422": 2, "yuv440": 2, "yuv444": 4, "rgb": 4,
}  # fmt: skip
_Y4M_PIX_FMTS = tuple(
    f"{family}{suffix}"
    for family in ("yuv420p", "yuv422p", "yuv444p", "gray")
    for suffix in ("", "10le", "12le")
)


def encoder_for(options: EncodeOptions, muxer: str) -> tuple[Encoder, list[str]]:
    """The encoder that will run, opened once to be sure, and notes on a fallback.

    A hardware encoder that does not open falls back to the software encoder of the same codec.
    Raises OptionError for a preset or quality that does not fit.
    """
    if muxer == "yuv4mpegpipe":
        return ENCODERS["rawvideo"], []
    wanted = ENCODERS[options.codec]
    _check_quality(wanted, options)
    reason = why_closed(wanted)
    if reason is None:
        return wanted, []
    fallback = ENCODERS[options.codec.removesuffix("_nvenc")]
    if fallback is wanted:
        raise SinkError(f"codec={wanted.codec!r}: {wanted.name} does not open here ({reason})")
    note = f"{wanted.name} does not open here ({reason}); {fallback.name} encodes instead"
    if options.preset:
        note += f", with its preset {fallback.preset} instead of {options.preset}"
    return fallback, [note]


def _check_quality(encoder: Encoder, options: EncodeOptions) -> None:
    asked = {"crf": options.crf, "preset": options.preset, "bitrate": options.bitrate}
    if encoder.crf is None:
        for name, value in asked.items():
            if value is not None:
                raise OptionError(f"{name}={value!r}: {encoder.codec} is lossless and accepts none")
    elif options.crf is not None and options.crf > encoder.max_crf:
        raise OptionError(f"crf={options.crf}: {encoder.codec} accepts 0 to {encoder.max_crf}")
    if options.preset is not None and options.preset not in encoder.presets:
        raise OptionError(
            f"preset={options.preset!r}: {encoder.name} accepts {', '.join(encoder.presets)}"
        )


def probe_encoders() -> list[tuple[str, bool, str]]:
    """For every value of ``EncodeOptions.codec``: FFmpeg's name, whether it opens here, and "" or why not."""
    reasons = [
        (encoder.name, why_closed(encoder))
        for codec, encoder in ENCODERS.items()
        if codec != "rawvideo"
    ]
    return [(name, reason is None, reason or "") for name, reason in reasons]


def why_closed(encoder: Encoder) -> str | None:
    """Open the encoder for a small image: None where that works, else FFmpeg's reason."""
    quiet_svt()
    try:
        context: Any = av.CodecContext.create(encoder.name, "w")
    except (av.FFmpegError, ValueError):
        return "not part of this FFmpeg"
    side = context.width = context.height = max(64, encoder.min_size)
    context.pix_fmt = "yuv420p"
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.options = codec_options(encoder, EncodeOptions(), Mastering(), side, side)
    try:
        with heard() as words:
            context.open()
    except av.FFmpegError as error:
        otherwise = redact(error.strerror or type(error).__name__)
        if not encoder.name.endswith("_nvenc"):
            return otherwise
        # For a driver that is too old, FFmpeg names the version that it needs. Some GPUs have no encoder.
        return f"no NVIDIA GPU and driver with this encoder: {said(words, otherwise)}"
    return None


def quiet_svt() -> None:
    """Let SVT-AV1 report errors only; it reads this variable, and has no option for it."""
    os.environ.setdefault("SVT_LOG", "1")


def codec_options(
    encoder: Encoder, options: EncodeOptions, hdr: Mastering, width: int, height: int
) -> dict[str, str]:
    """The encoder's private options; the bit rate is set on the context."""
    if encoder.name == "ffv1":  # its slices, of level 3, do not fit into the smallest images
        return {"level": "3" if min(width, height) >= 16 else "1"}
    if encoder.crf is None:
        return {}
    chosen = {"preset": preset_of(encoder, options)}
    if options.bitrate is None:
        quality = encoder.crf if options.crf is None else options.crf
        chosen["cq" if encoder.name.endswith("_nvenc") else "crf"] = str(quality)
    if encoder.name == "libx265":
        words = ["log-level=none", *x265_parameters(hdr)]
        if width < 64:
            words.append("cutree=0")  # with it, x265 4.2 writes beyond its memory in narrow images
        chosen["x265-params"] = ":".join(words)
    elif encoder.name == "libsvtav1" and svt_parameters(hdr):
        chosen["svtav1-params"] = ":".join(svt_parameters(hdr))
    return chosen


def preset_of(encoder: Encoder, options: EncodeOptions) -> str:
    """The preset that the encoder will have; nothing where it has none."""
    return (options.preset if options.preset in encoder.presets else encoder.preset) or ""


@dataclass(frozen=True, slots=True)
class Fit:
    """The encoder's input for a frame, with notes and losses of the conversion."""

    target: Target
    notes: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


def fit(
    encoder: Encoder, layout: PlaneFormat, *, bit_depth: int | None, alpha: bool, images: bool
) -> Fit:
    """The pixel format and size nearest to a frame that the encoder takes.

    Args:
        bit_depth: the depth that was asked for, None for the frame's own.
        alpha: whether frames have transparency.
        images: whether the frames are images: RGB then becomes 4:2:0, which all players support.

    """
    accepted = _accepted(encoder.name)
    depth = bit_depth or layout.bit_depth
    for kind, bits in _candidates(layout.layout, depth, images and encoder.crf is not None):
        for name in _spellings(kind, bits, alpha and encoder.alpha):
            if name in accepted:
                width, height = _fitting_size(encoder, layout, kind)
                notes, losses = _changes(
                    encoder, layout, kind, bits=bits, asked=bit_depth, images=images
                )
                if (width, height) != (layout.width, layout.height):
                    notes += (
                        f"{layout.width}x{layout.height} was padded to {width}x{height} for"
                        f" {encoder.name} by repeating the last row or column",
                    )
                return Fit(Target(name, width, height), notes, losses)
    raise SinkError(f"{encoder.name} accepts no pixel format near {layout}; use codec='ffv1'")


def _accepted(name: str) -> frozenset[str]:
    if name == "rawvideo":
        return frozenset(_Y4M_PIX_FMTS)
    return frozenset(pixels.name for pixels in av.Codec(name, "w").video_formats or ())


def _candidates(layout: Layout, depth: int, flat: bool) -> Iterator[tuple[Layout, int]]:
    layouts = ("yuv420",) if layout == "rgb" and flat else _LAYOUTS[layout]
    depths = [bits for bits in (8, 9, 10, 12, 14, 16) if bits >= depth]
    depths += [bits for bits in (14, 12, 10, 9, 8) if bits < depth]
    fuller = [kind for kind in layouts if _CHROMA_SHARE[kind] >= _CHROMA_SHARE[layout]]
    # Fewer bits lose less than fewer chroma samples, so bits are dropped first.
    for kinds in (fuller, [kind for kind in layouts if kind not in fuller]):
        for bits in depths:
            for kind in kinds:
                yield kind, bits


def _spellings(layout: Layout, bit_depth: int, alpha: bool) -> tuple[str, ...]:
    packed = {("rgb", 8): "bgra" if alpha else "bgr0", ("yuv420", 10): "p010le"}
    names = (pix_fmt_name(layout, bit_depth, alpha=alpha), packed.get((layout, bit_depth), ""))
    return tuple(name for name in names if name)


def _fitting_size(encoder: Encoder, layout: PlaneFormat, kind: Layout) -> tuple[int, int]:
    width = max(layout.width, encoder.min_size)
    height = max(layout.height, encoder.min_size)
    if not encoder.odd_sizes and kind in ("yuv420", "yuv422"):
        width += width % 2
    if not encoder.odd_sizes and kind == "yuv420":
        height += height % 2
    return width, height


def _changes(
    encoder: Encoder,
    layout: PlaneFormat,
    kind: Layout,
    *,
    bits: int,
    asked: int | None,
    images: bool,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Notes and losses of writing ``layout`` as ``kind`` with ``bits``."""
    notes: list[str] = []
    losses: list[str] = []
    if kind != layout.layout:
        text = f"{layout.layout} was written as {kind}, which {encoder.name} accepts"
        # A video of images plays everywhere only with subsampled chroma; for other sources it is a loss.
        smaller = _CHROMA_SHARE[kind] < _CHROMA_SHARE[layout.layout]
        (losses if smaller and not images else notes).append(text)
    if bits != layout.bit_depth:
        text = f"{layout.bit_depth} bit was written as {bits} bit"
        if bits < layout.bit_depth and asked is None:
            losses.append(f"{text}: {encoder.name} accepts no more, ffv1 does")
        else:
            notes.append(text)
    return tuple(notes), tuple(losses)
