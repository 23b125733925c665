"""A stream in several qualities, as HLS offers it: the best one is read, with its sound."""

from __future__ import annotations

from typing import Any

from av.stream import Discard, Disposition


def choose_variant(container: Any) -> None:
    """Let FFmpeg skip all variants of an HLS stream but the best: the largest image, the highest rate."""
    if not container.format.name.startswith("hls"):
        return
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    readable = [stream for stream in videos if stream.codec_context is not None]
    if not readable:
        return
    best = max(readable, key=_quality)
    for stream in container.streams:
        if stream.index != best.index and not _belongs(stream, best, videos):
            stream.discard = Discard.all


def is_left_out(stream: Any) -> bool:
    """Whether FFmpeg skips a stream."""
    return bool(stream.discard == Discard.all)


def left_out(container: Any) -> list[str]:
    """Names of the streams of other variants, for reports."""
    if not container.format.name.startswith("hls"):
        return []
    return [_name(stream) for stream in container.streams if is_left_out(stream)]


def _quality(stream: Any) -> tuple[int, float, int]:
    rate = float(stream.average_rate or 0)
    return stream.width * stream.height, _bit_rate(stream) or 0, (rate > 0 and round(rate)) or 0


def _bit_rate(stream: Any) -> int | None:
    """The bit rate of the variant of a stream; None where several variants share the stream."""
    text = stream.metadata.get("variant_bitrate", "")
    return int(text) if text.isdecimal() else None


def _belongs(stream: Any, best: Any, videos: list[Any]) -> bool:
    """Whether a stream is played with the best video: sound or text of its variant, or of all variants."""
    if stream.type == "video":
        return False
    if _bit_rate(stream) is None:
        return True
    if _bit_rate(best) is None:  # shared by variants whose sound differs
        rates = (_bit_rate(s) or 0 for s in best.container.streams if s.type == stream.type)
        return _bit_rate(stream) == max(rates)
    if _bit_rate(stream) != _bit_rate(best):
        return False
    # Streams of variants with the same rate follow each other.
    alike = sorted(v.index for v in videos if _bit_rate(v) == _bit_rate(best))
    later = next((index for index in alike if index > best.index), None)
    return best.index < stream.index < (later or stream.index + 1) or alike == [best.index]


def _name(stream: Any) -> str:
    rate = _bit_rate(stream)
    size = f" {stream.width}x{stream.height}" if stream.type == "video" else ""
    return f"#{stream.index} {stream.type}{size}" + (f" of {rate / 1000:g} kbit/s" if rate else "")
