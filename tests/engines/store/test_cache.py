"""Whatever is wrong with the cache, the right engine runs."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from tests.engines.conftest import write_weights
from tests.networks import TINY, TINY_NLCL
from vderain.engines.pool import EnginePool
from vderain.engines.store import cache as cache_module
from vderain.engines.store.cache import Built, EngineCache, cache_dir
from vderain.engines.store.key import EngineKey, cpu_features, package_versions
from vderain.frames import Clip, PlaneFormat
from vderain.options import EngineOptions

FMT = PlaneFormat("gray", 16, 16)
KEY = EngineKey("openvino", "float32", "CPU", ("avx2",), "ab" * 32, TINY, FMT, (("openvino", "1"),))
GOOD = Built(b"binary" * 100, {"agreement_db": {"rainy": 60.0}, "dry_db": None})


class Builder:
    """Counts builds."""

    def __init__(self, built=GOOD):
        self.built = built
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.built


def fetch(folder, key=KEY, built=GOOD, **options):
    """(what was fetched, whether it had to be built, notes)."""
    build, notes = Builder(built), []
    fetched = EngineCache(folder).fetch(key, build, notes, **options)
    return fetched, build.calls == 1, notes


def entry(folder, suffix):
    (path,) = folder.glob(f"*{suffix}")
    return path


def test_an_engine_is_built_once(tmp_path):
    folder = tmp_path / "new" / "cache"
    assert fetch(folder) == (GOOD, True, [])
    assert fetch(folder) == (GOOD, False, [])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert entry(folder, ".bin").stat().st_mode & 0o077 == 0
    sidecar = json.loads(entry(folder, ".json").read_text())
    assert json.loads(sidecar["key"])["weights"] == KEY.weights


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def old_schema(folder):
    path = entry(folder, ".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 0}))


def better_grade(folder):
    path = entry(folder, ".json")
    path.write_text(path.read_text().replace("60.0", "90.0"))


def unreadable(folder):
    path = entry(folder, ".json")
    path.unlink()
    path.symlink_to(path.name)  # what no user can read, root included


DAMAGES = {
    "one byte of the binary": lambda folder: flip(entry(folder, ".bin"), 250),
    "truncated binary": lambda folder: os.truncate(entry(folder, ".bin"), 10),
    "empty binary": lambda folder: os.truncate(entry(folder, ".bin"), 0),
    "no sidecar, as after a kill between the two": lambda folder: entry(folder, ".json").unlink(),
    "no binary": lambda folder: entry(folder, ".bin").unlink(),
    "truncated sidecar": lambda folder: os.truncate(entry(folder, ".json"), 40),
    "one byte of the sidecar": lambda folder: flip(entry(folder, ".json"), 3),
    "sidecar of another kind": lambda folder: entry(folder, ".json").write_text("[1]"),
    "old schema": old_schema,
    "changed grade": better_grade,
    "unreadable": unreadable,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_built_again_and_replaced(tmp_path, damage):
    fetch(tmp_path / "cache")
    DAMAGES[damage](tmp_path / "cache")
    assert fetch(tmp_path / "cache") == (GOOD, True, [])
    assert fetch(tmp_path / "cache") == (GOOD, False, [])


def test_an_entry_under_another_keys_name_is_not_used(tmp_path):
    fetch(tmp_path)
    other_key = replace(KEY, weights="cd" * 32)
    for suffix in (".bin", ".json"):
        path = entry(tmp_path, suffix)
        path.rename(path.with_name(other_key.digest + suffix))
    assert fetch(tmp_path, other_key) == (GOOD, True, [])


def test_fresh_replaces_a_sound_entry(tmp_path):
    other = replace(GOOD, blob=b"other")
    fetch(tmp_path)
    assert fetch(tmp_path, built=other, fresh=True) == (other, True, [])
    assert fetch(tmp_path) == (other, False, [])


def test_a_cache_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "cache"
    for _ in range(2):
        fetched, built, notes = fetch(folder)
        assert (fetched, built) == (GOOD, True)
        assert notes == [f"engine not cached: {folder}: Not a directory"]
    assert EngineCache(folder).size == 0


def test_a_full_disk_is_done_without(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.os, "fsync", full)
    fetched, built, notes = fetch(tmp_path)
    assert (fetched, built) == (GOOD, True)
    assert notes == [f"engine not cached: {tmp_path}: No space left on device"]
    assert list(tmp_path.glob("*.tmp")) == []


def test_a_directory_without_write_permission_still_serves(tmp_path, monkeypatch):
    fetch(tmp_path)

    def read_only(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache_module.tempfile, "mkstemp", read_only)
    monkeypatch.setattr(cache_module.FileLock, "acquire", read_only)
    assert fetch(tmp_path) == (GOOD, False, [])
    other_key = replace(KEY, precision="bfloat16")
    assert fetch(tmp_path, other_key)[1:] == (
        True,
        [f"engine not cached: {tmp_path}: Permission denied"],
    )


def test_a_directory_that_others_may_write_is_not_trusted(tmp_path):
    fetch(tmp_path)
    tmp_path.chmod(0o777)
    _, built, notes = fetch(tmp_path)
    assert built
    assert "others may write there" in notes[0]


def test_no_home_directory(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    for name in ("VDERAIN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cache_module.Path, "home", homeless)
    _, built, notes = fetch(None)
    assert built
    assert notes == ["engine not cached: cache: Could not determine home directory."]


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("VDERAIN_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("VDERAIN_CACHE")
    assert cache_dir() == tmp_path / "xdg" / "vderain" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "vderain" / "engines"


def test_size_counts_no_foreign_files(tmp_path):
    fetch(tmp_path)
    (tmp_path / "holiday.mp4").write_bytes(b"x" * 1000)
    cache = EngineCache(tmp_path)
    assert len(GOOD.blob) < cache.size < len(GOOD.blob) + 1100


def test_a_failing_build_leaves_nothing(tmp_path):
    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EngineCache(tmp_path).fetch(KEY, fail, [])
    assert fetch(tmp_path) == (GOOD, True, [])


def build_and_count(folder, started, counter):
    def build():
        with counter.get_lock():
            counter.value += 1
        time.sleep(0.5)
        return GOOD

    started.wait(60)
    assert EngineCache(folder).fetch(KEY, build, []) == GOOD


@pytest.mark.slow
def test_two_processes_build_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    started, counter = context.Barrier(2), context.Value("i", 0)
    processes = [
        context.Process(target=build_and_count, args=(tmp_path, started, counter)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert counter.value == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from vderain.engines.store import cache
from tests.engines.store.test_cache import GOOD, KEY
cache.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
cache.EngineCache(Path(sys.argv[1])).fetch(KEY, lambda: GOOD, [])
"""


def test_a_killed_build_blocks_nothing_and_is_swept_up(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -9
    (left,) = tmp_path.glob("*.tmp")
    assert fetch(tmp_path) == (GOOD, True, [])
    assert left.exists()  # it might belong to a build under way
    two_hours_ago = time.time() - 7200
    os.utime(left, (two_hours_ago, two_hours_ago))
    fetch(tmp_path, replace(KEY, precision="bfloat16"))
    assert not left.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "cd" * 32},
        {"config": replace(TINY, frames=3)},
        {"config": replace(TINY, dilations=(1, 3))},
        {"format": replace(FMT, width=18)},
        {"format": replace(FMT, bit_depth=10)},
        {"format": replace(FMT, layout="yuv444")},
        {"format": replace(FMT, matrix="bt601")},
        {"format": replace(FMT, full_range=True)},
        {"precision": "bfloat16"},
        {"device": "GPU"},
        {"features": ("avx2", "avx512_bf16")},
        {"versions": (("openvino", "2"),)},
        {"engine": "tensorrt"},
        {"schema": 99},
    ],
    ids=str,
)
def test_the_key_holds_all_that_matters(change):
    assert replace(KEY).digest == KEY.digest
    assert replace(KEY, **change).digest != KEY.digest


def test_the_key_names_the_network_and_how_it_normalises():
    frozen = replace(KEY, config=TINY_NLCL)
    named = [json.loads(key.text)["network"] for key in (KEY, frozen)]
    assert named == ["semi_drdnet", "nlcl"]
    own = replace(frozen, config=replace(TINY_NLCL, frozen_statistics=False))
    assert own.digest != frozen.digest


def test_versions_and_features(tmp_path):
    assert package_versions("numpy", "no-such-package") == (
        ("numpy", np.__version__),
        ("no-such-package", "none"),
    )
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Some CPU\nflags\t: fpu avx2 avx512_bf16\n\n")
    assert cpu_features(cpuinfo)[1:] == (" Some CPU   ", "avx2", "avx512_bf16")
    assert len(cpu_features(tmp_path / "absent")) == 2


def change_of(weights, **options):
    """The change of a fixed image, and the engine's spec."""
    pool = EnginePool(EngineOptions(engine="openvino", weights=str(weights), **options))
    plane = np.arange(256, dtype=np.uint8).reshape(16, 16) // 2 + 64
    change = pool.change(Clip((plane,), FMT)).result()[0]
    spec = pool.open(FMT)
    pool.close()
    return change, spec


def test_other_weights_of_the_same_name_are_another_engine(tmp_path, cache_folder):
    first, _ = change_of(write_weights(tmp_path / "own.safetensors", seed=0))
    second, _ = change_of(write_weights(tmp_path / "own.safetensors", seed=1))
    assert np.abs(first - second).max() > 0.1
    assert len(list(cache_folder.glob("*.bin"))) == 2


def test_an_entry_that_openvino_refuses_is_built_again(weights, cache_folder):
    expected, _ = change_of(weights, precision="float32")
    blob, sidecar = (
        entry(cache_folder, ".bin"),
        json.loads(entry(cache_folder, ".json").read_text()),
    )
    lie = Built(b"not a network", sidecar["check"])
    sidecar["sha256"] = cache_module._checksum(lie)
    blob.write_bytes(lie.blob)
    entry(cache_folder, ".json").write_text(json.dumps(sidecar))
    change, _ = change_of(weights, precision="float32")
    np.testing.assert_array_equal(change, expected)
    assert blob.stat().st_size > 1000


def test_a_run_without_cache_says_so(weights, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VDERAIN_CACHE", str(tmp_path / "file" / "cache"))
    change, spec = change_of(weights)
    assert np.isfinite(change).all()
    assert spec.name == "openvino"
    assert [note for note in spec.notes if "not cached" in note] == list(spec.notes)
    assert len(spec.notes) == 1


CACHED_RUN = """
import sys
import numpy as np
from vderain.engines import open_engine
from vderain.frames import Clip, PlaneFormat
from vderain.options import EngineOptions

fmt = PlaneFormat("gray", 16, 16)
engine = open_engine(EngineOptions(weights=sys.argv[1]))
engine.change(Clip((np.zeros((16, 16), np.uint8),), fmt)).result()
print(engine.open(fmt).name, [n for n in ("torch", "openvino_telemetry") if n in sys.modules])
"""


@pytest.mark.slow
def test_a_cached_run_needs_no_torch_and_reports_to_nobody(weights, cache_folder):
    lines = [
        subprocess.run(
            [sys.executable, "-c", CACHED_RUN, str(weights)],
            capture_output=True,
            text=True,
            check=True,
        )
        for _ in range(2)
    ]
    assert [line.stdout.strip() for line in lines] == ["openvino ['torch']", "openvino []"]
    assert [line.stderr for line in lines] == ["", ""]
