from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media import synth
from vderain.frames import Frame
from vderain.media import open_source
from vderain.media.describe import describe
from vderain.media.frames.color import Mastering, svt_parameters
from vderain.options import EncodeOptions, RunOptions

BT709 = {"color_range": 1, "colorspace": 1, "color_primaries": 1, "color_trc": 1}
BT601_FULL = {"color_range": 2, "colorspace": 6, "color_primaries": 6, "color_trc": 6}
UNSPECIFIED = {"color_range": 0, "colorspace": 2, "color_primaries": 2, "color_trc": 2}
PQ = {"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": 16}
MASTERING = (
    "log-level=none:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)"
    "L(10000000,1):max-cll=1000,400"
)


def tags(path):
    image = synth.decoded_frames(path)[0]
    names = ("color_range", "colorspace", "color_primaries", "color_trc")
    return {name: int(getattr(image, name)) for name in names}


def first_frame(path, **encode):
    source = open_source(str(path), run=RunOptions(), encode=EncodeOptions(**encode))
    try:
        return next(item for item in source if isinstance(item, Frame))
    finally:
        source.close()


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "ffv1"])
@pytest.mark.parametrize("written", [BT709, BT601_FULL, UNSPECIFIED])
def test_tags_are_written_as_they_came(tmp_path, codec, written):
    clip = synth.write(tmp_path / "in.mkv", pts=(0, 3600), attributes=written)

    synth.process(clip, tmp_path / "out.mkv", codec=codec)

    expected = tags(clip)
    if codec in ("hevc", "av1") and written is UNSPECIFIED:
        expected["color_range"] = 1  # these have no way to leave the range open
    assert tags(tmp_path / "out.mkv") == expected
    assert tags(clip)["colorspace"] == written["colorspace"]


@pytest.mark.parametrize(("tag", "height", "matrix"), [(1, 48, "bt709"), (2, 48, "bt601")])
def test_the_network_sees_the_matrix_of_the_tags(tmp_path, tag, height, matrix):
    clip = synth.write(
        tmp_path / "in.mp4", size=(64, height), pts=(0,), attributes={"colorspace": tag}
    )
    assert first_frame(clip).format.matrix == matrix


def test_motion_jpeg_is_full_range_and_stays_so(tmp_path):
    clip = synth.write(tmp_path / "in.avi", codec="mjpeg", pix_fmt="yuvj420p", pts=(0, 3600))

    synth.process(clip, tmp_path / "out.mp4")

    frame = first_frame(clip)
    assert frame.format.full_range and frame.format.layout == "yuv420"
    assert tags(tmp_path / "out.mp4")["color_range"] == 2


@pytest.mark.parametrize("location", ["left", "center", "topleft"])
def test_the_place_of_chroma_samples_is_kept(tmp_path, location):
    clip = synth.write(tmp_path / "in.mp4", pts=(0,), options={"chroma_sample_location": location})

    synth.process(clip, tmp_path / "out.mp4")

    code = {"left": 1, "center": 2, "topleft": 3}[location]
    assert synth.info(clip).tags.chroma_location == code
    assert synth.info(str(tmp_path / "out.mp4")).tags.chroma_location == code


@pytest.mark.parametrize("degrees", [90, -90, 180])
@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv"])
def test_rotation_is_copied_and_not_baked_in(tmp_path, degrees, extension):
    clip = synth.write(tmp_path / "in.mp4", pts=(0, 3600), rotation=degrees)

    synth.process(clip, tmp_path / f"out.{extension}")

    image = synth.decoded_frames(tmp_path / f"out.{extension}")[0]
    assert (image.width, image.height) == (64, 48)
    assert image.rotation % 360 == degrees % 360
    assert first_frame(clip).rotation == synth.info(clip).rotation == degrees % 360


def test_rotation_that_a_container_cannot_hold_is_a_loss(tmp_path):
    clip = synth.write(tmp_path / "in.mp4", pts=(0,), rotation=90)

    _, report = synth.process(clip, tmp_path / "out.ts")

    assert any("rotation by 90 degrees" in loss for loss in report.losses)


@pytest.mark.parametrize(("codec", "extension"), [("h264", "mkv"), ("hevc", "mkv"), ("av1", "mp4")])
def test_the_shape_of_pixels_is_kept(tmp_path, codec, extension):
    clip = synth.write(
        tmp_path / "in.mkv", pts=(0,), attributes={"sample_aspect_ratio": Fraction(4, 3)}
    )

    _, report = synth.process(clip, tmp_path / f"out.{extension}", codec=codec)

    with av.open(str(tmp_path / f"out.{extension}")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
    assert report.losses == []


def test_a_lost_shape_of_pixels_is_reported(tmp_path):
    clip = synth.write(
        tmp_path / "in.mkv", pts=(0,), attributes={"sample_aspect_ratio": Fraction(4, 3)}
    )

    _, report = synth.process(clip, tmp_path / "out.mkv", codec="ffv1")

    assert "shape of pixels 4:3" in report.losses[0]


class TestHdr:
    def clip(self, folder):
        # With several threads or reordering, a loaded machine may get two frames out of order from x265.
        options = {"x265-params": f"{MASTERING}:bframes=0:frame-threads=1:pools=none"}
        return synth.write(
            folder / "in.mkv", codec="libx265", pix_fmt="yuv420p10le", pts=(0, 3600),
            options=options, attributes=PQ,
        )  # fmt: skip

    def test_is_refused_with_advice(self, tmp_path):
        with pytest.raises(Exception, match=r"in\.mkv: is HDR video \(PQ.*hdr='keep'"):
            synth.process(self.clip(tmp_path), tmp_path / "out.mkv", codec="hevc")
        assert not (tmp_path / "out.mkv").exists()

    def test_is_kept_with_its_metadata_in_hevc(self, tmp_path):
        clip = self.clip(tmp_path)

        _, report = synth.process(clip, tmp_path / "out.mkv", codec="hevc", hdr="keep")

        assert tags(tmp_path / "out.mkv") == PQ
        assert light(tmp_path / "out.mkv") == light(clip)
        assert len(light(clip)) == 2
        assert report.losses == []

    def test_keeps_its_metadata_in_av1_as_nearly_as_that_can(self, tmp_path):
        clip = self.clip(tmp_path)

        synth.process(clip, tmp_path / "out.mkv", codec="av1", hdr="keep")

        after = light(tmp_path / "out.mkv")
        assert after["CONTENT_LIGHT_LEVEL"] == light(clip)["CONTENT_LIGHT_LEVEL"]
        assert "MASTERING_DISPLAY_METADATA" in after

    def test_metadata_that_a_codec_cannot_hold_is_a_loss(self, tmp_path):
        _, report = synth.process(
            self.clip(tmp_path), tmp_path / "out.mkv", codec="h264", hdr="keep"
        )
        assert any("mastering display" in loss for loss in report.losses)
        losses = describe(str(tmp_path / "in.mkv")).losses
        assert [loss for loss in losses if "mastering display" in loss] == [
            loss for loss in report.losses if "mastering display" in loss
        ]


def light(path):
    kinds = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")
    side_data = synth.decoded_frames(path)[0].side_data
    return {data.type.name: bytes(data) for data in side_data if data.type.name in kinds}


def test_svt_gets_decimal_numbers():
    hdr = Mastering(
        (34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450, 10_000_000, 50), (1000, 400)
    )
    assert svt_parameters(hdr) == [
        "mastering-display=G(0.265,0.69)B(0.15,0.06)R(0.68,0.32)WP(0.3127,0.329)L(1000.0,0.005)",
        "content-light=1000,400",
    ]


def test_gray_in_h264_looks_gray(tmp_path):
    clip = synth.write(tmp_path / "in.mkv", codec="ffv1", pix_fmt="gray", pts=(0, 3600))

    synth.process(clip, tmp_path / "out.mp4")

    image = synth.decoded_frames(tmp_path / "out.mp4")[0]
    for index in (1, 2):
        assert np.all(synth.samples(image, index) == 128)
    difference = synth.samples(image).astype(int) - synth.samples(synth.decoded_frames(clip)[0])
    assert np.abs(difference).mean() < 2
