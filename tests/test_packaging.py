import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {"vderain": "vderain", "engines": "vderain.engines", "training": "vderain.training"}


def test_every_package_folder_is_listed():
    found = set()
    for folder, package in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inside = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join([package, *inside]))
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


@pytest.mark.parametrize("folder", ["engines", "training"])
def test_a_mapped_package_refuses_its_folder_name(folder):
    code = f"import {folder}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and f"vderain.{folder}" in done.stderr


@pytest.mark.slow
def test_the_wheel_holds_vderain_only_with_its_weights_and_cards(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    copy = tmp_path / "source"  # building in place would leave, and reuse, a build folder
    for name in (*FOLDERS, "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    done = subprocess.run(
        [*command, "--wheel-dir", str(tmp_path), str(copy)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0] for name in names} == {"vderain", f"vderain-{version()}.dist-info"}
    assert {
        "vderain/py.typed",
        "vderain/engines/__init__.py",
        "vderain/training/train.py",
        "vderain/training/recipes/fast.toml",
        "vderain/training/replay/README.md",
        "vderain/training/replay/LICENSE-APACHE",
        "vderain/training/replay/carnd_test_video_0.jpg",
        "vderain/live/web/page/index.html",
        "vderain/weights/fast.safetensors",
        "vderain/weights/fast.json",
        "vderain/weights/selfcheck.npz",
    } <= set(names)


def version():
    return PROJECT["project"]["version"]


def test_versions_agree():
    import vderain

    assert vderain.__version__ == version()
    assert f"## {version()}" in (ROOT / "CHANGELOG.md").read_text()
