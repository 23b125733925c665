"""What a file has several of, although an output has one: movies, and programs of MPEG-TS."""

from __future__ import annotations

import os

from vderain.media.bitstream.programs import programs
from vderain.media.mp4.movies import next_movie


def structure_losses(path: str) -> list[str]:
    """What of a local file's structure no output has, one line each."""
    if not os.path.isfile(path):
        return []
    follows = next_movie(path)
    losses = [follows.loss] if follows is not None else []
    numbers = programs(path)
    if len(numbers) > 1:
        losses.append(
            f"{len(numbers)} programs of MPEG-TS ({', '.join(map(str, numbers))}): their tracks are in one, without"
            " their names"
        )
    return losses
