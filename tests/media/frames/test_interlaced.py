from collections import deque
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media import synth
from tests.media.frames.test_damage import read
from vderain.errors import SourceError
from vderain.media.frames.color import color_tags
from vderain.media.frames.decoding import Deinterlacer
from vderain.media.frames.planes import PlaneReader, carrier_of


def test_interlaced_frames_that_come_late_are_a_loss(tmp_path, monkeypatch):
    clip = TestInterlaced().clip(tmp_path)
    monkeypatch.setattr("vderain.media.source._LOOK_AHEAD", 0)
    monkeypatch.setattr("vderain.media.source.VideoSource._look_ahead", _first_only)
    stats, _ = synth.process(clip, tmp_path / "out.mp4")
    assert any("interlaced='deinterlace'" in loss for loss in stats.losses)


def _first_only(source):
    """What is looked at where interlaced frames begin later."""
    return deque([next(source._items)])


class TestInterlaced:
    def clip(self, folder):
        """H.264 in fields, upper field first."""
        return synth.write(
            folder / "in.mkv",
            options={"x264-params": "tff=1"},
            pts=tuple(range(0, 12 * synth.STEP, synth.STEP)),
        )

    def test_is_refused_with_advice_before_any_output(self, tmp_path):
        with pytest.raises(SourceError, match=r"in\.mkv: is interlaced.*interlaced='deinterlace'"):
            synth.process(self.clip(tmp_path), tmp_path / "out.mp4")
        assert not (tmp_path / "out.mp4").exists()

    def test_is_deinterlaced_one_for_one_when_asked(self, tmp_path):
        clip = self.clip(tmp_path)

        stats, _ = synth.process(clip, tmp_path / "out.mp4", interlaced="deinterlace")

        assert synth.times(tmp_path / "out.mp4") == synth.times(clip)
        assert not any(
            image.interlaced_frame for image in synth.decoded_frames(tmp_path / "out.mp4")
        )
        assert "12 interlaced frames were deinterlaced" in stats.notes

    def test_is_kept_as_it_is_where_only_the_flag_is_wrong(self, tmp_path):
        clip = self.clip(tmp_path)

        stats, _ = synth.process(clip, tmp_path / "out.mkv", interlaced="keep", codec="ffv1")

        for before, after in zip(
            synth.decoded_frames(clip), synth.decoded_frames(tmp_path / "out.mkv"), strict=True
        ):
            assert np.array_equal(synth.samples(before), synth.samples(after))
            assert not after.interlaced_frame
        assert stats.losses == []
        assert any(
            "12 frames flagged as interlaced were taken as they are" in n for n in stats.notes
        )

    def test_full_images_pass_the_deinterlacer_untouched(self, tmp_path):
        clip = synth.write(tmp_path / "in.mkv")
        plain, _ = read(clip)
        filtered, stats = read(clip, interlaced="deinterlace")
        assert stats.notes == []
        for one, other in zip(plain, filtered, strict=True):
            assert one.pts == other.pts and one.duration == other.duration
            assert all(map(np.array_equal, one.planes, other.planes))

    @pytest.mark.parametrize(
        "name", ["yuv420p", "nv12", "p010le", "yuv422p12le", "uyvy422", "gbrp"]
    )
    def test_full_images_keep_their_samples_and_tags_in_every_order_of_samples(self, name):
        image = noise(name)
        expected = PlaneReader().read(image, color_tags(image, 0))
        deinterlacer, (filtered,) = deinterlaced(image)
        found = PlaneReader().read(filtered, color_tags(filtered, 0))
        assert deinterlacer.note == ""
        assert color_tags(filtered, 0) == color_tags(image, 0)
        assert found[2] == expected[2]
        assert all(map(np.array_equal, found[0], expected[0]))

    def test_cinema_colours_become_rgb_as_without_the_filter(self):
        image, plain = noise("xyz12le"), PlaneReader()
        expected = plain.read(image, color_tags(image, 0))
        deinterlacer, (filtered,) = deinterlaced(image)
        found = PlaneReader().read(filtered, color_tags(filtered, 0))
        assert found[2] == expected[2] and found[2].layout == "rgb"
        assert all(map(np.array_equal, found[0], expected[0]))
        assert (
            deinterlacer.note == plain.note == "pixel format xyz12le was converted to rgb, 12 bit"
        )

    def test_no_format_is_converted_without_a_note(self):
        seen = set()
        for name in sorted(av.video.format.names):
            if not av.VideoFormat(name, 16, 16).components:
                continue  # in the memory of a device
            try:
                image = noise(name)
                PlaneReader().read(image, color_tags(image, 0))
            except (ValueError, av.FFmpegError):
                continue  # nothing that libswscale reads
            deinterlacer, (filtered,) = deinterlaced(image)
            same = carrier_of(filtered.format.name) == carrier_of(name)
            assert same or "was converted to" in deinterlacer.note, name
            seen.add(name)
        assert len(seen) > 150


def noise(name):
    image = av.VideoFrame(64, 48, name)
    rng = np.random.default_rng(0)
    bits = max(component.bits for component in image.format.components)
    for plane in image.planes:
        if bits > 8 and "p010" not in name:
            low = rng.integers(0, 1 << bits, plane.buffer_size // 2, np.uint16)
            plane.update(low.tobytes() + bytes(plane.buffer_size % 2))
        else:
            plane.update(rng.bytes(plane.buffer_size))
    image.pts, image.time_base = 0, Fraction(1, 25)
    return image


def deinterlaced(image):
    deinterlacer = Deinterlacer(Fraction(1, 25))
    return deinterlacer, [*deinterlacer.push(image), *deinterlacer.flush()]
