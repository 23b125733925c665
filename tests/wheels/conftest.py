"""Published wheels that cannot be installed without a GPU, unpacked to be read, for tests marked ``wheels``."""

import subprocess
import sys
import zipfile

import pytest

PLATFORMS = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (17, 28, 31, 34)]
# torch-tensorrt -> the TensorRT that it is pinned to.
RELEASES = {"2.11.0": "10.15.1", "2.12.1": "10.16.1", "2.13.0": "11.0.0"}


def pip(*arguments):
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def unpacked(requirement, folder, *, native=False):
    """The folder of an unpacked wheel, without its native libraries unless asked; skips where there is no network."""
    done = pip(
        *("download", "--no-deps", "--only-binary=:all:", "--python-version=3.12"),
        *("--implementation=cp", *PLATFORMS, "-d", str(folder), requirement),
    )
    if done.returncode:
        pytest.skip(f"{requirement} cannot be downloaded, so nothing is proved of it")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        wanted = [n for n in names if native or not (n.endswith(".so") or "/lib/" in n)]
        archive.extractall(folder, wanted)
    wheel.unlink()
    return folder


@pytest.fixture(scope="session", params=RELEASES)
def torch_tensorrt(request, tmp_path_factory):
    """The Python side of each known torch-tensorrt."""
    folder = tmp_path_factory.mktemp("torch_tensorrt")
    return unpacked(f"torch-tensorrt=={request.param}", folder)


@pytest.fixture(scope="session", params=RELEASES.values())
def tensorrt_bindings(request, tmp_path_factory):
    """The bindings of the TensorRT that each is pinned to, as bytes."""
    folder = tmp_path_factory.mktemp("bindings")
    unpacked(f"tensorrt-cu13-bindings=={request.param}.*", folder, native=True)
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*.so")))
