import cv2
import numpy as np

from tests.training.rainy_clips import write_frames
from vderain.training.adapt.dry import shows_rain
from vderain.training.data.footage import read_footage, read_lessons


def test_fine_detail_that_moves_is_no_rain(tmp_path):
    """By fractions of a pixel, so that what is aligned is softer than the frame it is compared with."""
    grain = np.random.default_rng(3).random((120, 220, 3), np.float32)
    wide = np.clip(90 + 240 * (cv2.GaussianBlur(grain, (0, 0), 0.9) - 0.5), 0, 255)
    frames = [
        cv2.warpAffine(wide, np.float32([[1, 0, -0.7 * i], [0, 1, -0.3 * i]]), (128, 96))
        for i in range(30)
    ]
    dry = write_frames(tmp_path / "dry", [frame.astype(np.uint8) for frame in frames])
    pieces = read_footage([dry], 4).learnt
    views = [seen for seen, _ in read_lessons(pieces, lambda frames: frames)]
    assert np.mean([seen.valid.mean() for seen in views]) > 0.3
    assert not shows_rain(views)
