"""Decides which paths name images, and how long an image is shown."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

from vderain.media.io.formats import STANDARD_STREAM
from vderain.media.io.urls import is_url

READABLE = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
TIME_BASE = Fraction(1, 25)  # images have no time; each is shown this long as video


def is_image_path(path: str) -> bool:
    """Whether a path names an image, by its extension, or a folder of images.

    A name without extension that does not exist counts as a folder to be made.
    """
    if path == STANDARD_STREAM or is_url(path):
        return False
    suffix = Path(path).suffix.lower()
    if suffix in READABLE or os.path.isdir(path) or path.endswith(os.sep):
        return True
    return not suffix and not os.path.exists(path)
