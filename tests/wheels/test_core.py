"""Our own wheel in an environment without torch: what users install who want rain out of their video."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.media.synth import write

pytestmark = pytest.mark.wheels

ROOT = Path(__file__).parents[2]
SOURCES = ("vderain", "engines", "training", "pyproject.toml", "README.md", "LICENSE")


def checked(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """The folder of programs of a new environment with the wheel and what it requires; skips without a network."""
    folder = tmp_path_factory.mktemp("core")
    source = folder / "source"  # building in place would leave, and reuse, a build folder
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source / name)
    checked(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", folder, source),
    )
    checked(sys.executable, "-m", "venv", folder / "env")
    programs = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    (wheel,) = folder.glob("*.whl")
    pip = [programs / "python", "-m", "pip", "install", "--quiet"]
    checked(*pip, "--no-deps", wheel)
    found = subprocess.run([*map(str, pip), str(wheel)], capture_output=True, text=True)
    if found.returncode:
        pytest.skip("what vderain requires cannot be downloaded, so nothing is proved")
    return programs


@pytest.fixture
def run(core, tmp_path, monkeypatch):
    """Call the installed ``vderain``, with an engine cache of its own and outside the source."""
    monkeypatch.setenv("VDERAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PYTHONPATH", raising=False)

    def call(*arguments):
        command = [str(core / "vderain"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    return call


def test_torch_is_not_installed(core):
    code = "import importlib.util as u; print([u.find_spec(n) for n in ('torch', 'safetensors')])"
    assert checked(core / "python", "-c", code).stdout == "[None, None]\n"


def test_a_clip_is_derained(run, tmp_path):
    clip = write(tmp_path / "rainy.mkv")
    done = run("run", clip, "dry.mkv", "--report", "report.json")
    assert done.returncode == 0, done.stderr
    assert '"name": "openvino"' in (tmp_path / "report.json").read_text()
    assert run("compare", clip, "dry.mkv", "-o", "both.mkv").returncode == 0


@pytest.mark.parametrize("command", [["info", "rainy.mkv"], ["doctor"], ["serve", "--help"]])
def test_other_commands_work(run, tmp_path, command):
    write(tmp_path / "rainy.mkv")
    done = run(*command)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "command",
    [
        ["run", "rainy.mkv", "dry.mkv", "--engine", "reference"],
        ["train", "fast", "--clean", ".", "--run", "run"],
        ["evaluate", "--pairs", "."],
        ["adapt", "rainy.mkv", "-o", "mine.safetensors"],
        ["export", "run", "-o", "mine.safetensors"],
    ],
    ids=lambda command: command[0],
)
def test_what_needs_torch_says_what_to_install(run, tmp_path, command):
    write(tmp_path / "rainy.mkv")
    done = run(*command)
    assert done.returncode == 1
    assert "needs torch, which is not installed; pip install 'vderain[train]'" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
