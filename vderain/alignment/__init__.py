"""Neighbouring frames aligned to the current one, so that only the rain differs (ours); torch-free."""

from vderain.alignment.laying import View, aligned_neighbours
from vderain.alignment.motion import Aligner
from vderain.alignment.order import Aligned, floor_of, in_order_of_brightness, shown
from vderain.alignment.thumbnails import Thumbnail, luma, thumbnail

__all__ = [
    "Aligned",
    "Aligner",
    "Thumbnail",
    "View",
    "aligned_neighbours",
    "floor_of",
    "in_order_of_brightness",
    "luma",
    "shown",
    "thumbnail",
]
