"""``vderain engine``: each command as a user calls it."""

import json
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.engines.conftest import write_weights
from tests.engines.host_device import HostDevice
from tests.networks import TEMPORAL
from vderain.cli.engine import engine
from vderain.diagnostics import bench as bench_module
from vderain.engines import measure, profile
from vderain.engines.backends import cuda
from vderain.engines.pool import EnginePool
from vderain.engines.profile import PROFILE, Choice, stored_choices
from vderain.engines.store.cache import EngineCache
from vderain.errors import EngineBuildError, EngineLoadError, OptionError
from vderain.frames import PlaneFormat
from vderain.machine import has_nvidia_gpu
from vderain.options import EngineOptions
from vderain.weights import find_weights


@pytest.fixture
def weights(tmp_path):
    return str(write_weights(tmp_path / "own.safetensors"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VDERAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _short_measurements(monkeypatch):
    """Tests look at what is measured, not at how exactly."""
    monkeypatch.setattr(measure, "_SIDE", {"cpu": 256})
    monkeypatch.setattr(measure, "_SECONDS", 0.01)
    monkeypatch.setattr(profile, "_ROUND_S", 0.01)


def call(*arguments, fails=None):
    done = CliRunner().invoke(engine, arguments)
    if fails is None:
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    else:
        assert isinstance(done.exception, fails)
    return done


def test_built_engines_are_listed_verified_and_cleared(weights, folder):
    done = call("build", "--size", "40x32", "--size", "20x20", "--weights", weights,
                "--precision", "float32")  # fmt: skip
    assert done.output.splitlines()[0].startswith("40x32 yuv420 8 bit bt601 limited: openvino")
    (listed,) = json.loads(call("list", "--json").output)
    assert (listed["engine"], listed["precision"], listed["fault"]) == ("openvino", "float32", "")
    assert "any size yuv420 8 bit" in call("list").output
    assert call("verify").exit_code == 0
    (binary,) = folder.glob("*.bin")
    os.truncate(binary, 100)
    assert call("list").exit_code == 0
    damaged = call("verify")
    assert damaged.exit_code == 1 and "DAMAGED" in damaged.output
    assert call("verify", "--remove").exit_code == 0
    assert not list(folder.glob("*.bin")) and call("verify").exit_code == 0
    call("build", "--size", "8x8", "--weights", weights, "--precision", "float32")
    foreign = folder / "holiday.txt"
    foreign.write_text("mine")
    assert "MiB freed" in call("clear").output
    assert list(folder.iterdir()) == [foreign]


def test_a_format_is_built_as_it_is_described(weights, folder):
    done = call("build", "--size", "8x8", "--layout", "yuv444", "--bits", "10", "--matrix", "bt2020",
                "--full-range", "--engine", "reference", "--weights", weights)  # fmt: skip
    assert done.output.startswith("8x8 yuv444 10 bit bt2020 full: reference float32")


@pytest.mark.parametrize("size", ["0x4", "12", "axb", "99999x2", "-3x4"])
def test_a_size_that_is_none_is_refused(size):
    done = CliRunner().invoke(engine, ["build", "--size", size])
    assert done.exit_code == 2 and "1280x720" in done.output


def test_the_profile_of_tune_is_what_runs(weights, folder):
    done = call("tune", "--size", "16x16", "--seconds", "1", "--weights", weights)
    first = done.output.splitlines()[0]
    assert "fps" in first and "run uses:" in done.output
    values = json.loads((folder / PROFILE).read_text())
    (kept,) = values["choices"].values()
    assert Choice(**kept[0]).engine in first and kept[0]["frames_per_s"] > 0
    assert sorted(choice["engine"] for choice in kept) == [
        "openvino",
        "reference",
    ]  # the best of each

    _, card = find_weights("fast", weights)
    options = EngineOptions(weights=weights)
    told = stored_choices(options, card, EngineCache())
    assert list(told.values()) == [Choice(**choice) for choice in kept]
    # Another choice than the default's, as if it had been the fastest.
    (key,) = values["choices"]
    other = {**kept[0], "engine": "openvino", "precision": "float32", "slots": 4}
    values["choices"] = {key: [other]}
    (folder / PROFILE).write_text(json.dumps(values))
    for named in ("auto", "openvino"):
        pool = EnginePool(EngineOptions(weights=weights, engine=named))
        spec = pool.open(PlaneFormat("gray", 8, 8))
        assert (spec.name, spec.precision, pool.slots) == ("openvino", "float32", 4)
        pool.close()
    chosen = EnginePool(
        EngineOptions(weights=weights, engine="openvino", precision="float32", slots=1)
    )
    chosen.open(PlaneFormat("gray", 8, 8))
    assert chosen.slots == 1  # whoever chooses is not overruled
    chosen.close()


def test_a_profile_whose_precision_fails_here_is_done_without(weights, folder, monkeypatch):
    other = Choice("reference", "float16", 1)  # in which the reference does not compute
    monkeypatch.setattr("vderain.engines.pool.stored_choices", lambda *_: {"reference": other})
    pool = EnginePool(EngineOptions(weights=weights))
    opened = pool._made

    def made(name, options):
        if options.precision == "float16":
            return SimpleNamespace(open=failing)
        return opened(name, options)

    def failing(fmt):
        raise EngineBuildError("fails the self-check")

    monkeypatch.setattr(pool, "_made", made)
    spec = pool.open(PlaneFormat("gray", 8, 8))
    assert (spec.name, spec.precision) == ("reference", "float32")
    pool.close()


def test_bench_divides_the_time_of_the_network_among_kinds_of_operators(weights, folder):
    bench = ("bench", "--size", "64x48", "--seconds", "0.1", "--profile", "--weights", weights)
    found = json.loads(call(*bench, "--precision", "float32", "--json").output)
    shares = {one["kind"]: one["share"] for one in found["operators"]}
    assert sum(shares.values()) == pytest.approx(1)
    assert "Convolution" in shares and len(shares) > 1
    assert all(one["ms"] > 0 for one in found["operators"])
    lines = call(*bench, "--precision", "float32").output.splitlines()
    (first,) = (number for number, line in enumerate(lines) if line.startswith("operators:"))
    convolution, rest = map(float, re.findall(r"([0-9.]+) %", lines[first]))
    assert convolution + rest == pytest.approx(100, abs=0.11)
    table = [float(line.split()[-2]) for line in lines[first + 1 :] if line.endswith("%")]
    assert sum(table) == pytest.approx(100, abs=0.06 * len(table)) and len(table) > 1


def test_only_openvino_measures_the_time_of_operators(weights, folder):
    options = ("--size", "16x16", "--profile", "--engine", "reference", "--weights", weights)
    refused = call("bench", *options, fails=OptionError)
    assert "use engine='openvino'" in str(refused.exception)


def test_a_profile_is_no_reason_to_build_for_minutes_twice(weights, monkeypatch):
    def failing(fmt):
        raise EngineBuildError("does not build")

    built = []
    plain = SimpleNamespace(open=built.append)
    slow = SimpleNamespace(open=failing, is_built=lambda fmt: False)
    pool = EnginePool(EngineOptions(weights=weights, engine="reference"))
    monkeypatch.setattr(pool, "_made", lambda name, options: plain)
    with pytest.raises(EngineBuildError, match="does not build"):
        pool._running(slow, "reference", pool._options, PlaneFormat("gray", 8, 8))
    assert not built


def test_a_profile_from_before_a_gpu_was_there_is_not_taken(weights, folder, monkeypatch):
    call("tune", "--size", "8x8", "--seconds", "1", "--weights", weights)
    _, card = find_weights("fast", weights)
    options = EngineOptions(weights=weights)
    assert stored_choices(options, card, EngineCache())
    monkeypatch.setattr("vderain.engines.profile.nvidia_gpu_names", lambda: ("Card, CUDA 13000",))
    assert stored_choices(options, card, EngineCache()) == {}


def test_compiled_kernels_are_not_waited_for_while_another_engine_is_built(
    weights, folder, monkeypatch
):
    made = []
    compiled = Choice("reference", "float32", 1, compiled=True)
    monkeypatch.setattr("vderain.engines.pool.stored_choices", lambda *_: {"reference": compiled})
    monkeypatch.setattr(
        "vderain.engines.registry.make_backend",
        lambda name, weights, card, options, cache: made.append(options),
    )
    pool = EnginePool(EngineOptions(weights=weights))
    for at_once in (True, False):
        pool._backend("reference", pool._options, at_once=at_once)
    assert [options.compiled for options in made] == [False, True]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"schema": 2}',
        '{"schema": 2, "choices": {"a": 3}}',
        '{"schema": 2, "choices": {"a": [3]}}',
    ],
)
def test_a_damaged_profile_is_done_without(weights, folder, text):
    folder.mkdir(mode=0o700)
    (folder / PROFILE).write_text(text)
    _, card = find_weights("fast", weights)
    assert stored_choices(EngineOptions(weights=weights), card, EngineCache()) == {}


def test_candidates_on_a_gpu_include_compiled_kernels(monkeypatch):
    from vderain.engines import registry

    monkeypatch.setattr(registry, "has_nvidia_gpu", lambda: True)
    choices = list(profile._choices(EngineOptions()))
    assert {one.engine for one in choices} == {"tensorrt", "cuda", "openvino", "reference"}
    assert [str(one) for one in choices if one.compiled] == ["cuda float16, 2 in flight, compiled"]
    assert len(choices) == len(set(choices))
    (compiled,) = (one for one in choices if one.compiled)
    assert compiled.options(EngineOptions()).compiled


def test_tune_of_one_engine_measures_only_that_and_keeps_nothing(weights, folder):
    done = call("tune", "--size", "8x8", "--seconds", "1", "--weights", weights, "--engine",
                "reference")  # fmt: skip
    assert "reference float32" in done.output and "openvino" not in done.output
    assert not (folder / PROFILE).exists()


def test_bench_names_the_stage_that_limits(weights, folder):
    done = call("bench", "--size", "64x48", "--seconds", "0.3", "--weights", weights, "--json")
    found = json.loads(done.output)
    assert set(found["rates"]) == {
        *("decode", "upload", "network", "download", "encode", "end to end"),
    }
    assert all(rate > 0 for rate in found["rates"].values())
    slowest = min(("decode", "network", "encode"), key=lambda stage: found["rates"][stage])
    assert found["limiting_stage"] == slowest
    assert 0 < found["share_of_peak"] and found["peak_tflop_per_s"] > 0


def test_bench_of_an_engine_on_a_gpu_measures_its_transfers(weights, folder, monkeypatch):
    moved = []

    def transfers(device, planes, seconds, *, back):
        moved.append((device, [plane.shape for plane in planes], planes[0].dtype, back))
        return 100.0

    monkeypatch.setattr("vderain.diagnostics.bench.ON_NVIDIA", ("reference",))
    gpus = {}

    def device(wanted):
        gpus[wanted] = SimpleNamespace(torch_device=torch.device("cpu"))
        return gpus[wanted]

    monkeypatch.setattr("vderain.engines.backends.device.CudaDevice", device)
    monkeypatch.setattr("vderain.engines.backends.device.transfers_per_s", transfers)
    done = call("bench", "--size", "64x48", "--seconds", "0.1", "--weights", weights, "--json",
                "--engine", "reference")  # fmt: skip
    rates = json.loads(done.output)["rates"]
    assert rates["upload"] == rates["download"] == 100
    planes = [(48, 64), (24, 32), (24, 32)]
    assert [(to, shapes[:3], back) for to, shapes, _, back in moved] == [
        (gpus["auto"], planes, False), (gpus["auto"], planes, True),
    ]  # fmt: skip
    assert {dtype for *_, dtype, _ in moved} == {np.dtype(np.uint8)}


def test_bench_leaves_to_an_engine_that_aligns_what_it_does_itself(tmp_path, folder, monkeypatch):
    made, sent = [], []
    all_clips = bench_module.clips

    def clips(*arguments):
        for item, clip in all_clips(*arguments):
            made.append(clip)
            yield item, clip

    def transfers(device, planes, seconds, *, back):
        sent.append(len(planes))
        return 100.0

    device = SimpleNamespace(torch_device=torch.device("cpu"))
    monkeypatch.setattr(bench_module, "clips", clips)
    monkeypatch.setattr("vderain.engines.backends.device.CudaDevice", lambda wanted: device)
    monkeypatch.setattr("vderain.engines.backends.device.transfers_per_s", transfers)
    monkeypatch.setattr(cuda, "CudaDevice", lambda wanted: HostDevice())
    weights = str(write_weights(tmp_path / "temporal.safetensors", TEMPORAL))
    call("bench", "--size", "64x48", "--seconds", "0.1", "--weights", weights, "--json",
         "--engine", "cuda")  # fmt: skip
    assert made and all(clip.unaligned is not None for clip in made)
    assert sent == [3, 3]  # to the device and back


def test_the_peak_is_measured_on_the_gpu_that_the_engine_runs_on(weights, folder, monkeypatch):
    asked = []

    def peak(device, precision):
        asked.append(device)
        return 1e12, precision

    second = SimpleNamespace(torch_device=torch.device("cuda", 1))
    monkeypatch.setattr("vderain.diagnostics.bench.ON_NVIDIA", ("reference",))
    monkeypatch.setattr("vderain.engines.backends.device.CudaDevice", lambda wanted: second)
    monkeypatch.setattr("vderain.engines.backends.device.transfers_per_s", lambda *_, back: 100.0)
    monkeypatch.setattr("vderain.diagnostics.bench.matrix_peak_flop_per_s", peak)
    call("bench", "--size", "64x48", "--seconds", "0.1", "--weights", weights, "--json",
         "--engine", "reference")  # fmt: skip
    assert asked == [torch.device("cuda", 1)]


def test_the_share_of_the_peak_counts_what_the_engine_computes(weights, folder):
    _, card = find_weights("fast", weights)
    for name, macs in (
        ("openvino", card.config.folded_macs_per_pixel),
        ("reference", card.config.macs_per_pixel),
    ):
        done = call("bench", "--size", "64x48", "--seconds", "0.1", "--weights", weights, "--json",
                    "--engine", name)  # fmt: skip
        found = json.loads(done.output)
        flop = 1e12 * found["tflop_per_s"] / found["rates"]["network"]
        assert flop == pytest.approx(2 * macs * 64 * 48, rel=0.005)  # rates are rounded


def test_bench_prints_the_rate_that_alignment_allows(folder):
    done = call("bench", "--size", "64x48", "--seconds", "0.1", "--json")
    assert json.loads(done.output)["rates"]["align"] > 0


def test_what_cannot_run_here_is_an_error(weights, folder):
    if not has_nvidia_gpu():
        call(
            "build",
            "--size",
            "8x8",
            "--engine",
            "cuda",
            "--weights",
            weights,
            fails=EngineLoadError,
        )
    call(
        "tune", "--engine", "reference", "--device", "cuda", "--weights", weights, fails=OptionError
    )
