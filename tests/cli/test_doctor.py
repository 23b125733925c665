import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from vderain import __version__
from vderain.cli.doctor import doctor
from vderain.diagnostics import diagnosis
from vderain.diagnostics.rates import TierRate, tier_rates
from vderain.errors import EngineLoadError
from vderain.options import SHIPPED_TIERS

CPUINFO = """processor\t: 0
model name\t: Imaginary CPU
flags\t\t: fpu sse2 avx2 avx512f avx512_bf16 amx_tile avx512_vnni

processor\t: 1
model name\t: Another
flags\t\t: avx_vnni
"""
ARM_CPUINFO = "processor\t: 0\nFeatures\t: fp asimd i8mm bf16 sve2\n"


def call(*arguments):
    result = CliRunner().invoke(doctor, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VDERAIN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def rates(monkeypatch):
    """Stands in for the measuring, which takes seconds."""
    found = [TierRate("fast", "no GPU", "openvino float32", {"640x360": 21.4})]
    monkeypatch.setattr(diagnosis, "tier_rates", lambda: iter(found))
    return found


def test_text_names_versions_engines_encoders_and_the_cache(tmp_path):
    shown = call()
    assert f"vderain: {__version__}" in shown
    assert "engine reference: works" in shown
    assert "encoder libx264: works" in shown
    assert f"engine cache: {tmp_path / 'cache'}, 0 MiB" in shown
    assert "engine tensorrt: " in shown and "engine cuda: " in shown


def test_json_agrees_with_what_was_found(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"{64 * chr(97)}.bin").write_bytes(bytes(3 * 2**20))
    found = json.loads(call("--json"))
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["cache_mib"] == 3.0
    assert found["here_free_mib"] > 0
    names = [encoder["name"] for encoder in found["encoders"]]
    assert names[0] == "libx264"
    assert len(names) == len(set(names))


def test_torch_is_not_imported():
    program = (
        "import sys; from click.testing import CliRunner; from vderain.cli.doctor import doctor;"
        "from vderain.diagnostics import diagnosis, rates;"
        "diagnosis.tier_rates = lambda: rates.tier_rates(((64, 48),));"
        "done = CliRunner().invoke(doctor);"
        "print(done.exit_code, done.output.count('at 64x48'), 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout.split() == ["0", str(len(SHIPPED_TIERS)), "False"]


def test_each_tier_has_its_frames_per_second(rates):
    rates.append(TierRate("light", "", reason="no engine runs here"))
    shown = call()
    assert "tier fast: 21.4 fps at 640x360 (openvino float32" in shown
    assert "--tier auto uses it for files: no GPU" in shown
    assert "tier light: does not run (no engine runs here)" in shown


def test_the_rates_of_all_tiers_are_measured():
    found = list(tier_rates(((64, 48),)))
    assert [rate.tier for rate in found] == list(SHIPPED_TIERS)
    assert all(rate.frames_per_s["64x48"] > 0 for rate in found)
    assert [rate.tier for rate in found if rate.chosen] == ["fast"]


def test_processor_is_read_from_cpuinfo(tmp_path):
    (tmp_path / "x86").write_text(CPUINFO)
    cpu = diagnosis.processor(tmp_path / "x86")
    assert cpu.model == "Imaginary CPU"
    assert cpu.features == ("amx_tile", "avx2", "avx512_bf16", "avx512_vnni", "avx512f")
    (tmp_path / "arm").write_text(ARM_CPUINFO)
    assert diagnosis.processor(tmp_path / "arm").features == ("asimd", "bf16", "i8mm", "sve2")
    assert diagnosis.processor(tmp_path / "missing").cores >= 1


def tool(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_nvidia_gpus_are_asked_of_the_driver_tool(tmp_path):
    answering = tool(tmp_path / "answers", "echo 'NVIDIA L4, 570.1, 23034 MiB'; echo")
    assert diagnosis.nvidia_gpus(answering) == ("NVIDIA L4, 570.1, 23034 MiB",)


@pytest.mark.parametrize("body", ["exit 9", "exec sleep 5"])
def test_a_driver_tool_that_fails_or_hangs_names_no_gpu(tmp_path, monkeypatch, body):
    monkeypatch.setattr(diagnosis, "_TOOL_TIMEOUT_S", 0.2)
    assert diagnosis.nvidia_gpus(tool(tmp_path / "fails", body)) == ()
    assert diagnosis.nvidia_gpus(str(tmp_path / "missing")) == ()
    assert diagnosis.nvidia_gpus(None) == ()


def test_gpus_of_openvino_are_listed_and_its_absence_is_survived(monkeypatch):
    monkeypatch.setattr(diagnosis.shutil, "which", lambda name: None)
    devices = {"CPU": "a CPU", "GPU.0": "Arc"}
    monkeypatch.setattr(diagnosis, "openvino_devices", lambda: devices)
    assert diagnosis.graphics() == ("Arc",)

    def missing():
        raise EngineLoadError("openvino is missing")

    monkeypatch.setattr(diagnosis, "openvino_devices", missing)
    assert diagnosis.graphics() == ()


def test_what_does_not_work_is_shown_with_its_reason(monkeypatch):
    states = [("openvino", False, "no device"), ("reference", True, "CPU")]
    monkeypatch.setattr(diagnosis, "usable_engines", lambda: states)
    shown = call()
    assert "engine openvino: does not work (no device)" in shown
    assert "engine reference: works (CPU)" in shown


def test_packages_that_are_missing_are_shown_as_such(monkeypatch):
    monkeypatch.setattr(diagnosis, "_PACKAGES", {"torch": ("no-such-package",)})
    assert diagnosis.installed_versions()["torch"] is None
    assert "torch: not installed" in call()


def test_free_space_is_that_of_the_nearest_existing_folder(tmp_path):
    here = diagnosis.free_mib(tmp_path)
    assert diagnosis.free_mib(tmp_path / "not" / "yet") == pytest.approx(here, rel=0.1)
