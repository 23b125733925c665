"""Supplemental enhancement information of H.264 and HEVC: the messages of a NAL unit, and their names."""

from __future__ import annotations

from collections.abc import Iterator

from vderain.media.bitstream.nal import NalFormat, unescaped

REGISTERED, UNREGISTERED = 4, 5  # payload types of ITU-T H.274
_H264_UNITS, _HEVC_UNITS = (6,), (39, 40)
_HEADER = {"h264": 1, "hevc": 2}  # bytes of a NAL unit
# Of the coding: how images are buffered, ordered, found and grouped. An encoder writes its own.
_OF_THE_CODING = frozenset(
    {0, 1, 3, 6, 7, 8, 10, 11, 12, 17, 18, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40}
    | {41, 42, 43, 44, 128, 129, 130, 131, 132, 133, 134, 158, 160, 161, 162, 163, 164, 168, 200}
)  # fmt: skip
# What FFmpeg's decoders hand out, or other places carry.
_HANDED_OUT = frozenset({REGISTERED, UNREGISTERED, 45, 47, 136, 137, 144, 147, 148, 176})
_NAMES = {
    2: "pan-scan rectangle", 9: "scene information", 13: "frozen image", 15: "snapshot mark", 19: "film grain",
    21: "stereo view", 22: "post-filter hint", 23: "tone mapping", 46: "positions of views", 56: "green metadata",
    141: "knee function of HDR", 142: "colour remapping", 149: "content colour volume",
    150: "360-degree view (equirectangular)", 151: "360-degree view (cube map)", 154: "sphere rotation",
    155: "packing of regions", 156: "360-degree viewport", 165: "alpha channel", 177: "depth representation",
    179: "acquisition of several views", 202: "annotated regions", 205: "shutter interval",
}  # fmt: skip


def sei_messages(form: NalFormat, unit: bytes) -> Iterator[tuple[int, bytes]]:
    """The payload type and the payload of each message in a NAL unit; nothing for one of another kind."""
    if form.kind(unit) not in (_H264_UNITS if form.codec == "h264" else _HEVC_UNITS):
        return
    data, place = unescaped(unit), _HEADER[form.codec]
    while place + 2 < len(data):  # behind the last message stands a bit
        numbers = []
        for _ in range(2):
            value = 0
            while place < len(data) - 1 and data[place] == 255:
                value, place = value + 255, place + 1
            numbers.append(value + data[place])
            place += 1
        kind, size = numbers
        yield kind, data[place : place + size]
        place += size


def unread_name(kind: int) -> str | None:
    """What people call a message that nothing hands out; None for one of the coding, or that something does."""
    if kind in _OF_THE_CODING or kind in _HANDED_OUT:
        return None
    return f"{_NAMES[kind]} (SEI {kind})" if kind in _NAMES else f"SEI message of kind {kind}"
