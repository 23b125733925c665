"""Neighbouring frames aligned to the current one, so that only the rain differs (ours); torch-free."""

from vderain.alignment.motion import Aligner
from vderain.alignment.neighbours import Placement, View, aligned, aligned_neighbours, placements
from vderain.alignment.order import Aligned, floor_of, in_order_of_brightness, shown, stand_in
from vderain.alignment.thumbnails import Thumbnail, luma, thumbnail, thumbnail_shape

__all__ = [
    "Aligned",
    "Aligner",
    "Placement",
    "Thumbnail",
    "View",
    "aligned",
    "aligned_neighbours",
    "floor_of",
    "in_order_of_brightness",
    "luma",
    "placements",
    "shown",
    "stand_in",
    "thumbnail",
    "thumbnail_shape",
]
