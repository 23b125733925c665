"""A camera of this machine: FFmpeg's own V4L2 code against a driver that ``v4l2_driver.c`` stands in for."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from tests.live.fakes import until
from tests.live.peers.servers import need

DRIVER = Path(__file__).parent / "v4l2_driver.c"
HEADER = Path("/usr/include/linux/videodev2.h")
DEVICE = "/dev/video77"


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """The library to stand before libc."""
    need("cc", HEADER.exists() and shutil.which("cc") is not None)
    library = tmp_path_factory.mktemp("driver") / "driver.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(DRIVER), "-ldl"], check=True)
    return library


@pytest.mark.slow
def test_a_device_is_recorded_and_taken_up_again_after_it_was_unplugged(driver, tmp_path):
    plug, folder, report = tmp_path / "plug", tmp_path / "recordings", tmp_path / "report.json"
    plug.touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.live.peers.record", DEVICE, str(folder), str(report)],
        env=os.environ | {"LD_PRELOAD": str(driver), "FAKE_CAMERA": DEVICE, "FAKE_CAMERA_PLUG": str(plug)},
    )  # fmt: skip

    def grows():
        before = size(folder)
        return until(lambda: size(folder) > before, 30)

    def rests():
        before = size(folder)
        time.sleep(4)  # a keyframe is written every two seconds
        return size(folder) == before

    try:
        assert grows() and grows()
        plug.unlink()
        assert until(rests, 30)
        plug.touch()
        assert grows() and grows()
    finally:
        process.terminate()
        assert process.wait(30) == 0
    (camera,) = json.loads(report.read_text())["cameras"]
    assert (camera["size"], camera["codec"]) == ("320x180", "rawvideo")
    assert camera["reconnects"] == 1 and camera["states"]["backoff"] >= 1
    (recording,) = folder.glob("*.mp4")
    with av.open(str(recording)) as container:
        times_s = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    steps_s = [b - a for a, b in itertools.pairwise(times_s)]
    assert len(times_s) >= 50 and min(steps_s) > 0
    assert sum(step > 0.5 for step in steps_s) == 1, "where it was unplugged"


def size(folder):
    return sum(path.stat().st_size for path in folder.iterdir()) if folder.exists() else 0
