import dataclasses
import os
import re
import subprocess
import sys
from dataclasses import fields
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from tests.media import synth
from vderain.errors import OptionError, SinkError
from vderain.frames import PlaneFormat
from vderain.media import probe_encoders
from vderain.media.io.encoders import ENCODERS, encoder_for, fit
from vderain.options import EncodeOptions

CODECS = ("h264", "hevc", "av1", "ffv1")


def write_raw(path, pix_fmt, size=(64, 48), codec="ffv1"):
    return synth.write(path, codec=codec, pix_fmt=pix_fmt, size=size, pts=(0, 3600))


def shape(path):
    image = synth.decoded_frames(path)[0]
    return image.width, image.height, image.format.name


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("h264", "yuv420p"), ("h264", "yuv422p"), ("h264", "yuv444p"),
        ("h264", "yuv420p10le"), ("h264", "yuv422p10le"), ("h264", "yuv444p10le"),
        ("hevc", "yuv420p"), ("hevc", "yuv422p10le"), ("hevc", "yuv420p12le"), ("hevc", "gray"),
        ("hevc", "gray10le"), ("hevc", "yuv444p12le"), ("hevc", "gbrp10le"),
        ("av1", "yuv420p"), ("av1", "yuv420p10le"),
    ],
)  # fmt: skip
def test_layout_and_bit_depth_stay(tmp_path, codec, pix_fmt):
    clip = write_raw(tmp_path / "in.mkv", pix_fmt)

    _, report = synth.process(clip, tmp_path / "out.mkv", codec=codec)

    assert shape(tmp_path / "out.mkv") == (64, 48, pix_fmt)
    assert report.notes == report.losses == []
    error = synth.samples(synth.decoded_frames(tmp_path / "out.mkv")[0]).astype(int)
    error -= synth.samples(synth.decoded_frames(clip)[0])
    bits = int(re.sub(r".*?(\d+)le", r"\1", pix_fmt)) if pix_fmt.endswith("le") else 8
    assert np.abs(error).mean() < (1 << bits) / 50


@pytest.mark.parametrize(
    "pix_fmt",
    [
        "yuv420p", "yuv422p", "yuv440p", "yuv444p", "gray", "yuv420p10le", "yuv422p12le",
        "yuv440p10le", "gray12le", "gray16le", "gbrp10le", "bgr0", "yuva420p", "yuva444p10le",
        "bgra",
    ],
)  # fmt: skip
def test_ffv1_gives_every_sample_back(tmp_path, pix_fmt):
    clip = write_raw(tmp_path / "in.mkv", pix_fmt, (37, 21))

    _, report = synth.process(clip, tmp_path / "out.mkv", codec="ffv1")

    before, after = synth.decoded_frames(clip), synth.decoded_frames(tmp_path / "out.mkv")
    assert after[0].format.name == pix_fmt
    for old, new in zip(before, after, strict=True):
        planes = [index for index in range(len(old.planes))]
        if pix_fmt == "bgr0":
            colours = (..., [0, 1, 2])  # the fourth byte is filling
            assert np.array_equal(bgr(old)[colours], bgr(new)[colours])
        else:
            assert all(np.array_equal(synth.samples(old, n), synth.samples(new, n)) for n in planes)
    assert report.losses == []


def bgr(image):
    plane = image.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width * 4].reshape(plane.height, plane.width, 4)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 3), (16, 16), (33, 31)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p"])
def test_every_size_encodes_and_padding_is_reported(tmp_path, codec, size, pix_fmt):
    clip = write_tiny(tmp_path / "in.mkv", pix_fmt, size)

    _, report = synth.process(clip, tmp_path / "out.mkv", codec=codec)

    width, height, _ = shape(tmp_path / "out.mkv")
    assert width >= size[0] and height >= size[1]
    padded = (width, height) != size
    assert padded == any("padded to" in note for note in report.notes)
    if codec == "ffv1" or (codec == "h264" and pix_fmt == "yuv444p"):
        assert not padded
    image = synth.decoded_frames(tmp_path / "out.mkv")[0]
    original = synth.samples(synth.decoded_frames(clip)[0]).astype(int)
    inside = synth.samples(image)[: size[1], : size[0]]
    assert np.abs(inside - original).mean() < 12


def write_tiny(path, pix_fmt, size):
    return synth.write(
        path, codec="ffv1", pix_fmt=pix_fmt, size=size, pts=(0, 3600), options={"level": "1"}
    )


def test_padding_repeats_the_last_row_and_column(tmp_path):
    clip = write_raw(tmp_path / "in.mkv", "yuv420p", (15, 17))

    _, report = synth.process(clip, tmp_path / "out.mkv", crf=0)

    image = synth.samples(synth.decoded_frames(tmp_path / "out.mkv")[0])
    assert image.shape == (18, 16)
    assert np.abs(image[:, 15].astype(int) - image[:, 14]).max() <= 1
    assert np.abs(image[17].astype(int) - image[16]).max() <= 1
    assert "15x17 was padded to 16x18" in report.notes[0]


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "written", "loss"),
    [
        ("h264", "yuv420p12le", "yuv420p10le", "12 bit was written as 10 bit"),
        ("h264", "yuv440p", "yuv444p", None),
        ("av1", "yuv444p", "yuv420p", "yuv444 was written as yuv420"),
        ("av1", "gray", "yuv420p", None),
        ("h264", "gbrp10le", "yuv444p10le", None),
    ],
)
def test_what_an_encoder_cannot_take_becomes_the_nearest_and_is_named(
    tmp_path, codec, pix_fmt, written, loss
):
    clip = write_raw(tmp_path / "in.mkv", pix_fmt)

    _, report = synth.process(clip, tmp_path / "out.mkv", codec=codec)

    assert shape(tmp_path / "out.mkv")[2] == written
    assert len(report.losses) == bool(loss)
    assert loss is None or loss in report.losses[0]
    assert loss or any("was written as" in note for note in report.notes)


@pytest.mark.parametrize("opaque", [True, False])
def test_alpha_that_is_not_kept_is_named(tmp_path, opaque):
    clip = synth.write(tmp_path / "in.mkv", codec="ffv1", pix_fmt="yuva420p")

    def change(item):
        if not hasattr(item, "planes"):
            return item
        alpha = np.full(item.alpha.shape, 255 if opaque else 254, np.uint8)
        return dataclasses.replace(item, alpha=alpha)

    _, report = synth.process(clip, tmp_path / "out.mkv", change=change)
    _, kept = synth.process(clip, tmp_path / "kept.mkv", change=change, codec="ffv1")

    assert ("the opaque alpha channel was not kept; ffv1 keeps it" in report.notes) == opaque
    assert any("transparency" in loss for loss in report.losses) != opaque
    assert kept.notes == kept.losses == []


def test_a_tag_of_transparency_goes_with_it(tmp_path):
    clip = synth.write(tmp_path / "plain.mkv", codec="ffv1", pix_fmt="yuva420p")
    with av.open(clip) as plain, av.open(str(tmp_path / "in.mkv"), "w") as output:
        stream = output.add_stream_from_template(plain.streams.video[0])
        stream.metadata["ALPHA_MODE"] = "1"
        for packet in plain.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    synth.process(tmp_path / "in.mkv", tmp_path / "out.mkv")
    found = []
    for name in ("in.mkv", "out.mkv"):
        with av.open(str(tmp_path / name)) as container:
            found.append("ALPHA_MODE" in {key.upper() for key in container.streams[0].metadata})
    assert found == [True, False]


def test_rgb_video_that_loses_chroma_is_a_loss(tmp_path):
    clip = synth.write(tmp_path / "in.mkv", codec="ffv1", pix_fmt="gbrp10le")
    _, report = synth.process(clip, tmp_path / "out.mkv", codec="av1")
    assert any("rgb was written as yuv420" in loss for loss in report.losses)


def test_rgb_keeps_its_colours_in_h264(tmp_path):
    clip = write_raw(tmp_path / "in.mkv", "bgr0")

    synth.process(clip, tmp_path / "out.mkv", crf=1)

    before = synth.decoded_frames(clip)[0].to_ndarray(format="rgb24").astype(int)
    after = synth.decoded_frames(tmp_path / "out.mkv")[0].to_ndarray(format="rgb24").astype(int)
    assert np.abs(before - after).mean() < 2


def test_transparency_that_is_lost_is_reported_once(tmp_path):
    clip = write_raw(tmp_path / "in.mkv", "yuva420p")

    _, report = synth.process(clip, tmp_path / "out.mp4")

    assert [loss for loss in report.losses if "transparency" in loss] == report.losses
    assert len(report.losses) == 1


@pytest.mark.parametrize(("asked", "written"), [(10, "yuv420p10le"), (8, "yuv420p")])
def test_the_bit_depth_can_be_chosen(tmp_path, asked, written):
    clip = write_raw(tmp_path / "in.mkv", "yuv420p" if asked == 10 else "yuv420p10le")

    _, report = synth.process(clip, tmp_path / "out.mkv", bit_depth=asked)

    assert shape(tmp_path / "out.mkv")[2] == written
    assert report.losses == [] and "bit was written as" in report.notes[0]


def test_a_bit_rate_replaces_the_quality(tmp_path):
    clip = synth.write(tmp_path / "in.mp4")
    synth.process(clip, tmp_path / "large.mp4", bitrate=2000)
    synth.process(clip, tmp_path / "small.mp4", bitrate=20)
    sizes = [
        sum(map(len, synth.payloads(tmp_path / name, 0))) for name in ("small.mp4", "large.mp4")
    ]
    assert sizes[0] < sizes[1] / 2


def test_defaults_are_those_of_the_help():
    helps = {item.name: item.metadata["help"] for item in fields(EncodeOptions)}
    for codec in ("h264", "hevc", "av1"):
        assert f"{ENCODERS[codec].crf} for {codec}" in helps["crf"]
    presets = {codec: ENCODERS[codec].preset for codec in ("h264", "hevc", "av1")}
    assert presets == {"h264": "faster", "hevc": "fast", "av1": "8"}
    assert "default: faster for h264, fast for hevc, 8 for av1" in helps["preset"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"preset": "8"},
        {"codec": "av1", "preset": "fast"},
        {"codec": "ffv1", "preset": "fast"},
        {"codec": "ffv1", "crf": 3},
        {"crf": 60},
    ],
)
def test_a_preset_or_quality_that_does_not_fit_is_named(tmp_path, wrong):
    clip = synth.write(tmp_path / "in.mp4", pts=(0,))
    with pytest.raises(OptionError, match=r"(preset|crf)='?\w+'?: "):
        synth.process(clip, tmp_path / "out.mkv", **wrong)
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize(
    ("codec", "extension", "advice"),
    [
        ("ffv1", "mp4", r"\.mkv"),
        ("h264", "webm", "codec='av1'"),
        ("av1", "ts", r"\.mp4"),
        ("h264", "xyz", r"\.mp4 "),
    ],
)
def test_a_container_that_cannot_hold_the_codec_is_named(tmp_path, codec, extension, advice):
    clip = synth.write(tmp_path / "in.mp4", pts=(0,))
    with pytest.raises(SinkError, match=rf"out\.{extension}: \.{extension} .*{advice}"):
        synth.process(clip, tmp_path / f"out.{extension}", codec=codec)


def test_every_software_encoder_opens_and_the_others_say_why_not():
    found = {name: (opens, reason) for name, opens, reason in probe_encoders()}
    assert list(found) == [
        *("libx264", "libx265", "libsvtav1", "ffv1", "h264_nvenc", "hevc_nvenc", "av1_nvenc")
    ]
    for name, (opens, reason) in found.items():
        assert opens == (reason == "")
        assert opens or name.endswith("_nvenc")


def test_a_hardware_encoder_that_does_not_open_is_replaced(monkeypatch):
    monkeypatch.setattr(
        "vderain.media.io.encoders.why_closed",
        lambda encoder: "no such card" if "nvenc" in encoder.name else None,
    )
    encoder, notes = encoder_for(EncodeOptions(codec="hevc_nvenc", preset="p7"), "mp4")
    assert encoder.name == "libx265"
    assert "hevc_nvenc does not open here (no such card); libx265 encodes instead" in notes[0]
    assert "fast instead of p7" in notes[0]


def test_hardware_encoders_get_ten_bits_in_their_own_packing():
    fitted = fit(
        ENCODERS["hevc_nvenc"], PlaneFormat("yuv420", 640, 480, 10),
        bit_depth=None, alpha=False, images=False,
    )  # fmt: skip
    assert fitted.target.pix_fmt == "p010le"
    assert fitted.notes == fitted.losses == ()


@pytest.mark.parametrize(
    ("codec", "extension", "tag"),
    [("h264", "mp4", "avc1"), ("hevc", "mp4", "hvc1"), ("hevc", "mov", "hvc1")],
)
def test_players_find_the_tag_that_they_know(tmp_path, codec, extension, tag):
    clip = synth.write(tmp_path / "in.mp4", pts=(0,))
    synth.process(clip, tmp_path / f"out.{extension}", codec=codec)
    with av.open(str(tmp_path / f"out.{extension}")) as container:
        assert container.streams.video[0].codec_tag == tag


def test_the_index_of_mp4_is_in_front(tmp_path):
    clip = synth.write(tmp_path / "in.mp4", pts=(0, 3600))
    synth.process(clip, tmp_path / "out.mp4")
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("codec", CODECS)
def test_encoders_print_nothing(tmp_path, codec):
    clip = synth.write(tmp_path / "in.mp4", pts=(0, 3600))
    script = (
        "import sys; from tests.media import synth;"
        " synth.process(sys.argv[1], sys.argv[2], codec=sys.argv[3])"
    )
    quiet = {name: value for name, value in os.environ.items() if name != "SVT_LOG"}
    done = subprocess.run(
        [sys.executable, "-c", script, clip, str(tmp_path / "out.mkv"), codec],
        capture_output=True, text=True, env=quiet, check=True,
    )  # fmt: skip
    assert done.stdout == done.stderr == ""
    assert synth.times(tmp_path / "out.mkv") == [0, Fraction(1, 25)]


@pytest.mark.parametrize(("codec", "pix_fmt"), [("h264", "yuv420p"), ("ffv1", "bgr0")])
def test_images_become_a_video_that_plays(tmp_path, codec, pix_fmt):
    for number in range(3):
        pixels = np.full((48, 64, 3), (200, 40 * number, 30), np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), pixels)

    _, report = synth.process(tmp_path, tmp_path / "out.mkv", codec=codec)

    assert shape(tmp_path / "out.mkv") == (64, 48, pix_fmt)
    assert synth.times(tmp_path / "out.mkv") == [Fraction(number, 25) for number in range(3)]
    colours = [
        image.to_ndarray(format="bgr24", src_colorspace="ITU709")[20, 20]
        for image in synth.decoded_frames(tmp_path / "out.mkv")
    ]
    expected = [(200, 40 * number, 30) for number in range(3)]
    assert np.abs(np.array(colours, int) - expected).max() <= 4
    assert report.losses == []


def test_costs_of_presets_are_relative_to_the_default():
    for encoder in ENCODERS.values():
        assert set(encoder.costs) <= set(encoder.presets)
        assert not encoder.costs or encoder.costs[encoder.preset] == 1.0
    assert ENCODERS["h264"].costs
