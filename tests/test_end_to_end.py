"""Source, pipeline and sink together, on media made here."""

import json
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest

from tests.engines.backends.test_known_change import darkening
from tests.engines.conftest import write_weights
from tests.fakes import OffsetEngine
from tests.media.synth import STEP, Video, decoded_frames, samples, write
from vderain import EncodeOptions, EngineOptions, RunOptions, derain_file
from vderain.cli.run import _ProgressBar
from vderain.media import open_sink, open_source
from vderain.pipeline import Progress, derain

FORMATS = ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "bgr0", "gray"]
SMALL = {"level": "1"}  # FFV1 cuts images into slices otherwise, too many for these
TAGS = {
    "untagged": {},
    "bt601 limited": {"colorspace": 6, "color_range": 1},
    "bt709 limited": {"colorspace": 1, "color_range": 1},
    "bt709 full": {"colorspace": 1, "color_range": 2},
}


def planes(path):
    return [
        [image.to_ndarray(format="rgb24")]  # packed and planar RGB alike
        if image.format.is_rgb
        else [samples(image, index).copy() for index in range(len(image.planes))]
        for image in decoded_frames(path)
    ]


@pytest.fixture(scope="module")
def blind_weights(tmp_path_factory):
    """A network that finds no rain anywhere."""
    folder = tmp_path_factory.mktemp("weights")
    return str(write_weights(folder / "blind.safetensors", spoil=darkening(0.0)))


@pytest.mark.slow
@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_what_has_no_rain_comes_back_bit_identical(tmp_path, pix_fmt, tags, blind_weights):
    rainy = write(
        tmp_path / "rainy.mkv",
        codec="ffv1",
        pix_fmt=pix_fmt,
        pts=(0, STEP),
        attributes=TAGS[tags],
        options=SMALL,
    )
    derain_file(
        rainy,
        tmp_path / "dry.mkv",
        engine=EngineOptions(weights=blind_weights),
        encode=EncodeOptions(codec="ffv1"),
    )
    before, after = planes(rainy), planes(tmp_path / "dry.mkv")
    assert len(before) == len(after) == 2
    for frame, again in zip(before, after, strict=True):
        assert all(np.array_equal(*pair) for pair in zip(frame, again, strict=True))


def test_a_change_reaches_the_file_in_its_own_units(tmp_path):
    rainy = write(tmp_path / "rainy.mkv", codec="ffv1", pts=(0, STEP), options=SMALL)
    options = EncodeOptions(codec="ffv1")
    with closing(open_source(rainy, run=RunOptions(), encode=options)) as source:
        sink = open_sink(str(tmp_path / "dry.mkv"), source, options)
        derain(source, OffsetEngine(-7.0), sink)
    for frame, again in zip(planes(rainy), planes(tmp_path / "dry.mkv"), strict=True):
        assert all(np.array_equal(a - 7, b) for a, b in zip(frame, again, strict=True))


PEAK_MEMORY = """
import json, resource, sys
from vderain import derain_file
derain_file(sys.argv[1], sys.argv[2])
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


def peak_memory(rainy, dry):
    command = [sys.executable, "-c", PEAK_MEMORY, rainy, str(dry)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_length(tmp_path):
    peaks = []
    for seconds in (1, 10, 60):  # the first one fills the engine cache
        clip = write(
            tmp_path / f"{seconds}.mp4",
            Video(pts=tuple(range(0, seconds * 25 * STEP, STEP)), languages=("eng",)),
        )
        peaks.append(peak_memory(clip, tmp_path / f"dry_{seconds}.mp4"))
    assert peaks[2] < 1.05 * peaks[1]


def progress(frames, eta_s):
    return Progress(frames, 10**6, 1.0, eta_s, "engine")


@pytest.mark.parametrize(
    ("seen", "warnings"),
    [
        ([progress(8, 7200.0), progress(9, 7200.0)], 1),
        ([progress(8, 600.0)], 0),
        ([progress(2, 7200.0)], 0),  # too early to tell
        ([Progress(1, 100, 0.01, 9900.0, "engine")], 1),  # so slow that one frame says enough
    ],
)
def test_a_run_of_more_than_an_hour_is_warned_of_once(capsys, seen, warnings):
    with _ProgressBar(hidden=False) as bar:
        for step in seen:
            bar.update(step)
    assert capsys.readouterr().err.count("hours on this machine") == warnings
