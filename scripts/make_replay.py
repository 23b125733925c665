"""Make ``training/replay``: clean images for ``vderain adapt`` to render rain on, of clips that may be shipped.

    python scripts/make_replay.py DIR

DIR holds the clips that ``training/replay/README.md`` names. Half of the images are whole frames made smaller, half
are cut out of frames as they are.
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np

from vderain.training.data.images import read_spread

SIZE = (384, 256)
QUALITY = 82
# How many images; the camera of the first two moves, the others stand still.
CLIPS = {
    "carnd_solidWhiteRight": 6,
    "carnd_test_video": 6,
    "sam2_01_dog": 6,
    "sam2_04_coffee": 6,
    "sam2_05_default_juggle": 6,
}
FOLDER = Path(__file__).parent.parent / "training" / "replay"


@click.command()
@click.argument("clips", type=click.Path(exists=True, file_okay=False, path_type=Path))
def make(clips: Path) -> None:
    """Replace the images."""
    rng = np.random.default_rng(1)
    for name, count in CLIPS.items():
        for number, (frame,) in enumerate(read_spread(clips / f"{name}.mp4", count)):
            height, width = frame.shape[:2]
            if number % 2:
                scale = max(SIZE[1] / height, SIZE[0] / width)
                size = (round(width * scale), round(height * scale))
                frame = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
                height, width = frame.shape[:2]
            top, left = (
                int(rng.integers(n - side + 1))
                for n, side in zip((height, width), SIZE[::-1], strict=True)
            )
            cut = frame[top : top + SIZE[1], left : left + SIZE[0]]
            path = FOLDER / f"{name}_{number}.jpg"
            cv2.imwrite(str(path), cut[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


if __name__ == "__main__":
    make()
