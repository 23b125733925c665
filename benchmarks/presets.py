"""What each preset of x264 costs and gains; prints, asserts nothing.

    python benchmarks/presets.py VIDEO... [--most 48] [--presets veryfast,fast,medium] [--live --base veryfast]

Each video, dry or derained, is encoded in one thread at three qualities with every preset. Bits are compared where
PSNR of luma (and SSIM) equals that of the base preset at the default quality.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from fractions import Fraction

import av
import click
import numpy as np
import numpy.typing as npt

from vderain.media.io.encoders import ENCODERS
from vderain.metrics import mean_psnr, psnr, ssim

ENCODER = ENCODERS["h264"]
STEPS = (-3, 0, 3)  # around the quality that is asked for
RATE = 25
LIVE_CRF = 20

Lumas = list[npt.NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """What one encoding took and what is left of the frames."""

    cpu_ms: float  # per frame
    kbit: float  # per frame
    psnr_db: float
    ssim: float


def frames_of(video: str, most: int) -> list[av.VideoFrame]:
    """The first frames of a video in 8-bit 4:2:0."""
    with av.open(video) as source:
        decoded = zip(range(most), source.decode(video=0), strict=False)
        return [frame.reformat(format="yuv420p") for _, frame in decoded]


def lumas_of(frames: list[av.VideoFrame]) -> Lumas:
    """Their luma, (H, W) each."""
    return [frame.to_ndarray()[: frame.height].copy() for frame in frames]


def encoded(
    frames: list[av.VideoFrame], lumas: Lumas, preset: str, crf: int, more: dict[str, str]
) -> Encoded:
    """Encode in memory, decode and compare."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as sink:
        stream = sink.add_stream(
            ENCODER.name, RATE, options={"preset": preset, "crf": str(crf), **more}
        )
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        stream.codec_context.thread_count = 1
        since, size = time.process_time(), 0
        for index, frame in enumerate([*frames, None]):
            if frame is not None:
                frame.pts, frame.time_base, frame.pict_type = index, Fraction(1, RATE), 0
            packets = stream.encode(frame)
            size += sum(packet.size for packet in packets)
            sink.mux(packets)
        cpu_s = time.process_time() - since
    file.seek(0)
    with av.open(file) as source:
        found = lumas_of(list(source.decode(video=0)))
    pairs = list(zip(found, lumas, strict=True))
    return Encoded(
        1000 * cpu_s / len(frames),
        8 * size / 1000 / len(frames),
        mean_psnr(psnr(one, other) for one, other in pairs),
        float(np.mean([ssim(one, other) for one, other in pairs[::4]])),
    )


def bits_at(points: list[Encoded], score: str, wanted: float) -> float:
    """Kilobits per frame at which a score is reached: a parabola through the logarithms of three points."""
    scores = np.array([getattr(point, score) for point in points])
    if score == "ssim":
        scores, wanted = -np.log10(1 - scores), -np.log10(1 - wanted)
    return float(
        np.exp(np.polyval(np.polyfit(scores, np.log([p.kbit for p in points]), 2), wanted))
    )


def measure(video: str, presets: list[str], base: str, most: int, *, live: bool) -> None:
    """Print the row of every preset, compared with that of ``base``."""
    frames = frames_of(video, most)
    lumas = lumas_of(frames)
    crf = LIVE_CRF if live else ENCODER.crf or 0
    more = {"tune": "zerolatency", "bf": "0", "g": str(2 * RATE)} if live else {}
    rows = {
        preset: [encoded(frames, lumas, preset, crf + step, more) for step in STEPS]
        for preset in presets
    }
    known = rows[base]
    print(f"{video}: {len(frames)} frames of {frames[0].width}x{frames[0].height}")
    for preset, points in rows.items():
        cpu, own = (sum(point.cpu_ms for point in found) for found in (known, points))
        bits = [
            bits_at(points, score, getattr(known[1], score)) / known[1].kbit
            for score in ("psnr_db", "ssim")
        ]
        print(
            f"{preset:10} {points[1].cpu_ms:6.1f} CPU ms a frame, {own / cpu:.2f} of {base}; bits at"
            f" equal PSNR {bits[0]:.3f}, at equal SSIM {bits[1]:.3f}; at CRF {crf} {points[1].kbit:.0f}"
            f" kbit, {points[1].psnr_db:.2f} dB, {points[1].ssim:.4f}",
            flush=True,
        )


@click.command()
@click.argument("videos", nargs=-1, required=True)
@click.option("--most", default=48, help="Frames of a video.")
@click.option("--presets", default="ultrafast,superfast,veryfast,faster,fast,medium,slow")
@click.option("--base", default=ENCODER.preset, help="Preset that the others are compared with.")
@click.option("--live", is_flag=True, help="Without delay, as a live camera is encoded.")
def main(videos: tuple[str, ...], most: int, presets: str, base: str, live: bool) -> None:
    """Measure every video."""
    for video in videos:
        measure(video, presets.split(","), base, most, live=live)


if __name__ == "__main__":
    main()
