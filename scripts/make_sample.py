"""Make ``samples/rainy_road.mp4`` and ``samples/dry_road.mp4``: rain rendered onto a clip that may be shipped.

    python scripts/make_sample.py carnd_solidWhiteRight.mp4

The clip is solidWhiteRight.mp4 of udacity/CarND-LaneLines-P1 (MIT, Copyright (c) 2016-2018 Udacity, Inc.).
Drops keep falling from one frame to the next: speed, length and width follow their distance. The sound
is filtered noise.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import click
import cv2
import numpy as np
import numpy.typing as npt

SIZE = (640, 360)
FRAMES = 100
FRAME_RATE = 25
SAMPLE_RATE = 48_000
# Of each distance: drops, nearness (speed), width in pixels, opacity.
LAYERS = ((2200, 1.0, 1.0, 0.5), (700, 2.0, 1.2, 0.7), (160, 4.5, 2.4, 0.55))
WIND = 0.22  # sideways per downward step
SHUTTER = 0.5  # share of a frame's time that the shutter is open
SUPERSAMPLE = 2  # streaks thinner than a pixel come out thin instead of jagged
SUBPIXEL_BITS = 4


class FallingRain:
    """Drops at several distances that fall through the image and come in again at the top."""

    def __init__(self, rng: np.random.Generator) -> None:
        width, height = SIZE
        self._depths = [
            (
                rng.uniform((-0.3 * width, 0), (1.1 * width, height), (drops, 2)),
                rng.uniform(0.8, 1.2, drops)[:, None] * nearness * 14.0 * np.array([[WIND, 1.0]]),
                rng.choice(np.array([120, 165, 210, 255]), drops),
                width_px,
                opacity,
            )
            for drops, nearness, width_px, opacity in LAYERS
        ]

    def opacity(self, index: int) -> npt.NDArray[np.float32]:
        """(H, W) in [0, 1] of frame ``index``."""
        width, height = SIZE
        clear = np.ones((height, width), np.float32)
        for starts, speeds, levels, width_px, opacity in self._depths:
            fallen = starts + speeds * index
            span = np.array([[1.4 * width, 1.2 * height]])
            fallen = (fallen + 0.3 * span) % span - 0.15 * span
            streaks = draw_streaks(
                (height, width), fallen, fallen + speeds * SHUTTER, levels, width_px
            )
            clear *= 1 - opacity * np.asarray(
                cv2.GaussianBlur(streaks, (0, 0), 0.3 + 0.25 * width_px)
            )
        return 1 - clear


def draw_streaks(
    shape: tuple[int, int],
    starts: npt.NDArray[np.float64],
    ends: npt.NDArray[np.float64],
    levels: npt.NDArray[np.int64],
    width_px: float,
) -> npt.NDArray[np.float32]:
    """Draw streaks with crisp edges between points (N, 2) as (x, y) in pixels; (H, W) float32 in [0, 1].

    ``levels`` (N,) from 0 to 255 is their opacity.
    """
    height, width = shape
    canvas = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE), np.uint8)
    lines = (np.stack([starts, ends], 1) * (SUPERSAMPLE << SUBPIXEL_BITS)).astype(np.int32)
    for level in np.unique(levels):  # one drawing call for each
        cv2.polylines(
            canvas,
            list(lines[levels == level]),
            isClosed=False,
            color=int(level),
            thickness=max(1, round(width_px * SUPERSAMPLE)),
            lineType=cv2.LINE_AA,
            shift=SUBPIXEL_BITS,
        )
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / np.float32(255.0)


def rainy(image: npt.NDArray[np.uint8], opacity: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Mist and streaks over an image (H, W, 3) uint8."""
    misty = image * np.float32(0.9) + np.float32(0.1 * 170)
    mixed = misty * (1 - opacity[..., None]) + np.float32(215) * opacity[..., None]
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def write(path: Path, images: list[npt.NDArray[np.uint8]], noise: npt.NDArray[np.float32]) -> None:
    """H.264 and AAC in MP4."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", FRAME_RATE, options={"crf": "21", "preset": "slow"})
        video.width, video.height = SIZE
        video.pix_fmt = "yuv420p"
        context = video.codec_context
        context.color_range, context.colorspace = 1, 1
        context.color_primaries, context.color_trc = 1, 1
        audio = container.add_stream("aac", SAMPLE_RATE, layout="stereo")
        audio.bit_rate = 64_000
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="itu709")
            frame.pts, frame.time_base = index, Fraction(1, FRAME_RATE)
            container.mux(video.encode(frame))
        for start in range(0, noise.shape[1], 1024):
            sound = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(noise[:, start : start + 1024]), "fltp", "stereo"
            )
            sound.sample_rate, sound.pts = SAMPLE_RATE, start
            container.mux(audio.encode(sound))
        container.mux(video.encode())
        container.mux(audio.encode())


@click.command()
@click.argument("clip", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("samples"))
def main(clip: Path, out: Path) -> None:
    """Render rain onto the first seconds of CLIP."""
    rng = np.random.default_rng(7)
    capture = cv2.VideoCapture(str(clip))
    dry = []
    for _ in range(FRAMES):
        bgr = cv2.resize(capture.read()[1], SIZE, interpolation=cv2.INTER_AREA)
        dry.append(np.ascontiguousarray(bgr[..., ::-1], np.uint8))
    rain = FallingRain(rng)
    wet = [rainy(image, rain.opacity(index)) for index, image in enumerate(dry)]
    noise = rng.normal(0, 0.05, (2, SAMPLE_RATE * FRAMES // FRAME_RATE)).astype(np.float32)
    noise = np.stack([np.convolve(side, np.ones(8) / 8, "same") for side in noise]).astype(
        np.float32
    )
    write(out / "dry_road.mp4", dry, noise)
    write(out / "rainy_road.mp4", wet, noise)


if __name__ == "__main__":
    main()
