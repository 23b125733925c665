"""A folder of consecutive frames is read as one video where the user says so, and named where it looks like one."""

import numpy as np
import pytest
from PIL import Image

from tests.fakes import OffsetEngine
from tests.media.synth import times
from vderain.interfaces import EngineSpec

HINT = "look like consecutive frames"


class Neighbours(OffsetEngine):
    """An engine of three frames that remembers how bright the neighbours of each frame are."""

    frames = 3
    tier = "fast"

    def open(self, fmt):
        return EngineSpec("neighbours", "float32", "cpu", self.tier, frames=3, lookahead=1)


@pytest.fixture
def engine(user, monkeypatch):
    engine = Neighbours(0)
    for place in ("vderain.api", "vderain.engines", "vderain.cli.info"):
        monkeypatch.setattr(f"{place}.open_engine", lambda options: engine)
    return engine


def frames(folder, count=8, name="frame_{:04}.png", moving=True):
    """Images of one scene that get brighter, or of as many scenes."""
    folder.mkdir(exist_ok=True)
    scene = np.random.default_rng(0).integers(40, 160, (6, 8, 3)).repeat(8, 0).repeat(8, 1)
    for index in range(count):
        if not moving:
            scene = (
                np.random.default_rng(index).integers(40, 160, (6, 8, 3)).repeat(8, 0).repeat(8, 1)
            )
        Image.fromarray((scene + 4 * index).astype(np.uint8)).save(folder / name.format(index + 1))
    return folder


def uses_neighbours(engine):
    """Whether the clips of the frames hold anything but the frame itself."""
    clip = engine.submitted[len(engine.submitted) // 2]
    own = clip.neighbours[0].astype(int).mean() - clip.neighbours[1].astype(int).mean()
    return abs(own) > 1


def test_the_frames_of_a_sequence_see_their_neighbours(user, engine):
    frames(user.folder / "rainy")
    done, dry = user.run("rainy", "dry", "--sequence")
    assert (done.code, done.losses) == (0, [])
    assert uses_neighbours(engine)
    assert sorted(path.name for path in dry.iterdir()) == [f"frame_{n:04}.png" for n in range(1, 9)]


def test_images_of_a_folder_are_scenes_of_their_own(user, engine):
    frames(user.folder / "rainy")
    user.run("rainy", "dry")
    assert not uses_neighbours(engine)


def test_a_pattern_takes_its_files_in_the_order_of_their_numbers(user, engine):
    folder = frames(user.folder / "rainy", 12, "frame_{}.png")
    frames(folder, 2, "other_{}.png")
    done, dry = user.run("rainy/frame_%d.png", "dry.mp4")
    assert done.code == 0, done.said
    assert len(times(dry)) == 12
    assert uses_neighbours(engine)
    shades = [clip.planes[0].mean() for clip in engine.submitted]
    assert shades == sorted(shades)


def test_a_pattern_never_writes_over_its_own_frames(user):
    folder = frames(user.folder / "rainy")
    with pytest.raises(Exception, match="is the input itself"):
        user.run("rainy/frame_%04d.png", str(folder))


def test_a_pattern_without_files_says_so(user):
    frames(user.folder / "rainy")
    with pytest.raises(Exception, match="no file in it is of the sequence"):
        user.run("rainy/image_%04d.png", "dry")


def test_a_file_with_a_percent_sign_is_that_file(user):
    frames(user.folder / "rainy", 1, "all%d.png")
    done, dry = user.run("rainy/all%d.png", "dry.png")
    assert done.code == 0, done.said
    assert dry.exists()


@pytest.mark.parametrize(
    ("changes", "hinted"),
    [({}, True), ({"moving": False}, False), ({"count": 3}, False), ({"name": "{}0.png"}, False)],
    ids=["one scene", "many scenes", "too few", "other numbers"],
)
def test_a_folder_that_looks_like_a_sequence_is_named(user, changes, hinted):
    frames(user.folder / "rainy", **changes)
    done, _ = user.run("rainy", "dry")
    assert (HINT in done.said) == hinted
    assert ("--sequence" in done.said) == hinted


def test_nothing_is_hinted_where_it_is_read_as_one(user):
    frames(user.folder / "rainy")
    done, _ = user.run("rainy", "dry", "--sequence")
    assert HINT not in done.said


def test_a_video_is_no_folder_of_a_sequence(user):
    with pytest.raises(Exception, match="is for a folder of images"):
        user.run("timecode.mp4", "dry.mp4", "--sequence")


def test_a_tier_that_leaves_single_images_as_they_are_is_named(user, engine):
    frames(user.folder / "rainy")
    named = "light leaves single images as they are; --tier fast derains them"
    for tier, options, told in (
        ("light", (), True),
        ("light", ("--sequence",), False),
        ("fast", (), False),
    ):
        engine.tier = tier
        done, _ = user.run("rainy", f"dry_{tier}{len(options)}", *options)
        assert (named in done.lines("note")) is told, (tier, options, done.said)
