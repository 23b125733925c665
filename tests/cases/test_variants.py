"""Of a stream in several qualities the best is derained, with the sound that belongs to it."""

import shutil

import av
import pytest

from tests.cases.clips import Part, write
from tests.cases.conftest import FILES
from tests.media.synth import times

SMALL, LARGE = "small", "large"


def played(path):
    """Size of the video, and how many other streams there are."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        return (video.width, video.height), len(container.streams) - 1


@pytest.fixture
def master(user):
    """A master playlist of these lines, next to the media playlists of two sizes."""
    shutil.copytree(FILES / "hls", user.folder / "hls")

    def write_master(*lines):
        path = user.folder / "hls" / "made.m3u8"
        path.write_text("\n".join(["#EXTM3U", *lines]) + "\n")
        return path

    return write_master


def variant(name, rate, more=""):
    return [f"#EXT-X-STREAM-INF:BANDWIDTH={rate}{more}", f"{name}.m3u8"]


@pytest.mark.parametrize("output", ["dry.mkv", "dry.mp4"])
def test_the_best_variant_is_derained_with_its_own_sound(user, output):
    shutil.copytree(FILES / "hls", user.folder / "hls")
    done, dry = user.run("hls/master.m3u8", output)
    assert done.code == 0, done.said
    assert played(dry) == ((320, 180), 1)
    assert len(times(dry)) == 75
    assert "#0 video 160x90 of 100 kbit/s, #1 audio of 100 kbit/s" in done.said


def test_info_names_the_variants_that_are_left_out(user):
    shutil.copytree(FILES / "hls", user.folder / "hls")
    found = user.info("hls/master.m3u8")
    assert (found["info"]["width"], found["info"]["frames"]) == (320, 75)
    assert "#0 video 160x90" in "\n".join(found["notes"])
    assert len(found["tracks"]) == 1


def test_the_order_and_the_rates_of_variants_do_not_matter(user, master):
    master(*variant("a", 100_000), *variant("c", 900_000))
    _, dry = user.run("hls/made.m3u8", "dry.mkv")
    assert played(dry) == ((320, 180), 1)


def test_variants_of_one_rate_keep_their_own_sound(user, master):
    master(*variant("c", 500_000), *variant("a", 500_000))
    _, dry = user.run("hls/made.m3u8", "dry.mkv")
    assert played(dry) == ((320, 180), 1)


def test_one_variant_of_sound_alone_is_left_out(user, master):
    part = Part(75)
    write(user.folder / "sound.ts", part)
    sound = user.folder / "hls" / "sound0.ts"
    with av.open(str(user.folder / "sound.ts")) as whole, av.open(str(sound), "w") as alone:
        stream = alone.add_stream_from_template(whole.streams.audio[0])
        for packet in whole.demux(whole.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                alone.mux(packet)
    playlist = (user.folder / "hls" / "c.m3u8").read_text()
    only = "\n".join(line for line in playlist.splitlines() if not line.startswith(("c1", "c2")))
    (user.folder / "hls" / "s.m3u8").write_text(only.replace("c0.ts", "sound0.ts"))
    master(*variant("s", 64_000), *variant("a", 900_000))
    _, dry = user.run("hls/made.m3u8", "dry.mkv")
    assert played(dry) == ((320, 180), 1)


def test_a_playlist_without_variants_is_as_before(user):
    shutil.copytree(FILES / "hls", user.folder / "hls")
    done, dry = user.run("hls/a.m3u8", "dry.mkv")
    assert played(dry) == ((320, 180), 1)
    assert "variants" not in done.said
