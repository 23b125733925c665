import numpy as np
import pytest

from tests.training.folders import noise, save, write_clip
from vderain.training.data import cache as cache_module
from vderain.training.data.cache import ImageCache
from vderain.training.data.images import ClipFrame, ImageFile, read_image

ONE = 48 * 64 * 3 / 1e6  # megabytes of an image of `noise`


@pytest.fixture
def files(tmp_path):
    return [ImageFile(save(tmp_path / f"{i}.png", noise(i))) for i in range(4)]


@pytest.fixture
def decoded(monkeypatch):
    """References and clips in the order in which they were decoded."""
    names = []
    for name in ("read_reference", "read_spread"):
        original = getattr(cache_module, name)

        def counted(reference, *rest, original=original):
            names.append(getattr(reference, "path", reference).name)
            return original(reference, *rest)

        monkeypatch.setattr(cache_module, name, counted)
    return names


def test_an_image_is_decoded_once_while_it_fits(files, decoded):
    cache = ImageCache(4.5 * ONE)
    for reference in files * 3:
        assert np.array_equal(cache.image(reference), read_image(reference.path))
    assert decoded == ["0.png", "1.png", "2.png", "3.png"]
    assert not cache.overflowed


def test_the_least_recently_used_is_dropped_first(files, decoded):
    cache = ImageCache(2.5 * ONE)
    for index in (0, 1, 0, 2, 0, 1):
        cache.image(files[index])
    assert decoded == ["0.png", "1.png", "2.png", "1.png"]
    assert cache.overflowed


def test_both_halves_come_from_one_decoded_file(files, decoded):
    cache = ImageCache()
    left, right = (cache.image(ImageFile(files[0].path, half)) for half in ("left", "right"))
    assert np.array_equal(np.concatenate([left, right], 1), read_image(files[0].path))
    assert decoded == ["0.png"]


@pytest.mark.parametrize("frames_in_memory", [0.5, 1.5, 10])
def test_a_clip_is_decoded_once_whatever_fits(tmp_path, decoded, frames_in_memory):
    clip = write_clip(tmp_path / "a.avi", [0, 50, 100, 150], size=(64, 48))
    cache = ImageCache(frames_in_memory * ONE)
    for index in (2, 0, 3, 1, 2, 2, 0):
        frame = cache.image(ClipFrame(clip, index, 4))
        assert frame.shape == (48, 64, 3) and abs(float(frame.mean()) - 50 * index) < 1
    assert decoded == ["a.avi"]


def test_what_lies_on_disk_goes_with_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    clip = write_clip(tmp_path / "a.avi", [0, 50, 100])
    cache = ImageCache(0)
    cache.image(ClipFrame(clip, 0, 3))
    assert len(list((tmp_path / "tmp").rglob("*.npy"))) == 3
    del cache
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_full_disk_makes_it_slow_not_wrong(tmp_path, monkeypatch, decoded, caplog):
    def full(path, image):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.np, "save", full)
    clip = write_clip(tmp_path / "a.avi", [0, 50, 100])
    cache = ImageCache(0)
    for index in (1, 2, 1):
        assert abs(float(cache.image(ClipFrame(clip, index, 3)).mean()) - 50 * index) < 1
    assert decoded == ["a.avi"] * 3
    assert caplog.text.count("No space left") == 1


def test_what_lies_on_disk_has_a_limit(tmp_path, monkeypatch, decoded, caplog):
    monkeypatch.setattr(cache_module, "_DISK_MB", 1.5 * ONE)
    clip = write_clip(tmp_path / "a.avi", [0, 50, 100, 150], size=(64, 48))
    cache = ImageCache(0)
    for index in (0, 1, 3, 0):
        assert abs(float(cache.image(ClipFrame(clip, index, 4)).mean()) - 50 * index) < 1
    assert decoded == ["a.avi"] * 2  # frames 0 and 1 lie on disk
    assert caplog.text.count("lower frames") == 1
