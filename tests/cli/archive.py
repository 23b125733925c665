"""Archives of short clips, and the command that derains them."""

from tests.batch.conftest import CLOSED
from tests.command import VDERAIN, vderain
from tests.media.synth import STEP, write

FAST = ("--preset", "ultrafast", "--segment", "1")


def command(*arguments):
    return [*VDERAIN, "batch", *map(str, arguments)]


def batch(*arguments, **settings):
    return vderain("batch", *arguments, **settings)


def clip(path, frames=25, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    pts = tuple(range(0, frames * STEP, STEP))
    return write(path, pts=pts, options=CLOSED, **changes)
