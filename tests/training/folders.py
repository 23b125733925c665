"""Small folders of images and clips for the tests of data."""

import cv2
import numpy as np


def save(path, image):
    """Write RGB (or grey, or RGBA) as the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if image.ndim == 3:
        order = [2, 1, 0, 3][: image.shape[2]]
        image = image[..., order]
    assert cv2.imwrite(str(path), image)
    return path


def level(value, height=8, width=10):
    return np.full((height, width, 3), value, np.uint8)


def noise(seed, height=48, width=64):
    """An image whose halves and neighbours are not alike."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write_clip(path, levels, size=(48, 32), frame_rate=10):
    """A lossless clip of grey frames, as .avi or .mkv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), frame_rate, size)
    assert writer.isOpened()
    for value in levels:
        writer.write(np.full((size[1], size[0], 3), value, np.uint8))
    writer.release()
    return path
