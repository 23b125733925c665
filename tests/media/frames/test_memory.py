"""Videos whose frames would take more memory than there is are refused before they are decoded."""

from contextlib import closing
from pathlib import Path

import pytest

from tests.media.synth import write
from vderain.errors import SourceError
from vderain.frames import Frame
from vderain.media import open_source
from vderain.media.frames import memory
from vderain.options import EncodeOptions, RunOptions

GIB = 1 << 30


def sizes(path, **run):
    with closing(open_source(str(path), run=RunOptions(**run), encode=EncodeOptions())) as source:
        return [(f.format.width, f.format.height) for f in source if isinstance(f, Frame)]


@pytest.fixture
def large(tmp_path):
    return write(tmp_path / "large.mp4", size=(1024, 768), pts=(0, 3600))


def test_a_video_that_takes_more_memory_than_is_free_is_refused(large, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: GIB // 10)
    assert len(sizes(large)) == 2  # 4 GiB are always tried
    monkeypatch.setattr(memory, "_ALWAYS_TRIED_BYTES", 0)
    with pytest.raises(
        SourceError, match=r"1024x768 needs about 1 GiB.*0\.1 GiB are free.*max_memory=1"
    ):
        sizes(large)
    assert len(sizes(large, max_memory=1)) == 2
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    assert len(sizes(large)) == 2


def test_what_may_be_taken_can_be_limited(large):
    with pytest.raises(SourceError, match=r"0\.1 GiB are allowed"):
        sizes(large, max_memory=0.1)


def test_more_bits_and_colour_take_more(tmp_path):
    plain = write(tmp_path / "a.mkv", size=(512, 384), pts=(0, 3600))
    rich = write(tmp_path / "b.mkv", size=(512, 384), pts=(0, 3600), pix_fmt="yuv444p10le")
    assert len(sizes(plain, max_memory=0.06)) == 2
    with pytest.raises(SourceError, match="512x384"):
        sizes(rich, max_memory=0.06)


@pytest.mark.slow
def test_frames_that_grow_out_of_the_memory_are_not_decoded(tmp_path):
    parts = [
        write(tmp_path / f"{size[0]}.h264", size=size, pts=range(0, 12 * 3600, 3600), format="h264")
        for size in [(64, 48), (2048, 1536)]
    ]
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join(Path(part).read_bytes() for part in parts))
    assert (2048, 1536) in sizes(both)
    assert set(sizes(both, max_memory=0.1)) == {(64, 48)}
