"""Rain plates, filmed or drawn on black, to be added to dry video."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vderain.training.rain.streaks import Layer

Grey = npt.NDArray[np.uint8]

_BLACK_SHARE = 10  # one of so many frames is darker at a place than what counts as black there
_NOISE = 2.0  # code values of the black


def black_of(frames: Grey) -> Grey:
    """What a plate (T, H, W) uint8 shows behind its rain, (H, W)."""
    place = len(frames) // _BLACK_SHARE
    rows = [np.partition(frames[:, row], place, axis=0)[place] for row in range(frames.shape[1])]
    return np.stack(rows)


def plate_light(frame: Grey, black: Grey) -> Layer:
    """What rain adds to a frame of a plate, both (H, W) uint8, in code values."""
    light = frame.astype(np.float32) - black - np.float32(_NOISE)
    return np.asarray(np.maximum(light, 0), np.float32)
