"""OpenVINO in eight bits: chosen where the CPU is made for it, held to a bar of its own."""

from dataclasses import replace

import pytest

from tests.engines.conftest import write_weights
from tests.engines.test_contract import agreement_db, expected_change, make_clip, make_format
from tests.network.inference.test_quantize import WIDE, images
from vderain.engines.backends import openvino as openvino_module
from vderain.engines.backends.openvino import OpenVinoBackend
from vderain.engines.graphs.runtime import import_openvino
from vderain.engines.store.cache import EngineCache
from vderain.engines.store.selfcheck import INT8_AGREEMENT_DB, CheckResult
from vderain.errors import EngineBuildError
from vderain.network.card import Card
from vderain.network.inference.quantize import calibrate
from vderain.options import EngineOptions
from vderain.weights import find_weights, load_network

pytestmark = pytest.mark.slow

FMT = make_format("yuv420", 44, 36)


def ranged(path, grown=1.0):
    """Put int8 scales on the card of weights, ``grown`` times too wide."""
    card = Card.load(path)
    scales = calibrate(load_network(path, card), images(4, card.config))
    scales = {name: (low * grown, high * grown) for name, (low, high) in scales.items()}
    replace(card, int8=scales).save(path)
    return path


@pytest.fixture
def wide_weights(tmp_path):
    return write_weights(tmp_path / "wide.safetensors", WIDE)


def backend(path, tmp_path, precision="int8"):
    options = EngineOptions(precision=precision)
    return OpenVinoBackend(*find_weights("fast", str(path)), options, EngineCache(tmp_path / "c"))


@pytest.mark.parametrize("layout", ["yuv420", "rgb"])
@pytest.mark.parametrize("bit_depth", [8, 10])
def test_int8_answers_as_the_network_does(wide_weights, tmp_path, layout, bit_depth):
    clip = make_clip(make_format(layout, 44, 36, bit_depth))
    engine = backend(ranged(wide_weights), tmp_path).open(clip.format)
    expected = expected_change(wide_weights, clip)
    agreement = agreement_db(engine.change(clip).result(), expected, clip.format)
    spec = engine.open(clip.format)
    engine.close()
    assert (spec.precision, spec.notes) == ("int8", ())
    assert INT8_AGREEMENT_DB < agreement < 120  # right, and not secretly float32


def test_where_the_self_check_fails_float32_runs(wide_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_module, "INT8_AGREEMENT_DB", 199.0)
    engine = backend(ranged(wide_weights), tmp_path).open(FMT)
    spec = engine.open(FMT)
    engine.close()
    assert spec.precision == "float32"
    assert spec.notes[0].startswith("openvino in int8 is not used, it fails the self-check")


def test_other_scales_of_the_same_weights_are_another_engine(wide_weights, tmp_path):
    for grown in (1.0, 1.1):
        backend(ranged(wide_weights, grown), tmp_path).open(FMT).close()
    assert len(list((tmp_path / "c").glob("*.bin"))) == 2


def test_weights_without_scales_say_how_to_get_them(wide_weights, tmp_path):
    with pytest.raises(EngineBuildError, match=r"vderain export measures them"):
        backend(wide_weights, tmp_path)


class OtherCpu:
    """OpenVINO's core, on a CPU that it would use in ``preferred``."""

    def __init__(self, core, preferred):
        self._core = core
        self._told = {
            "INFERENCE_PRECISION_HINT": preferred,
            "OPTIMIZATION_CAPABILITIES": ["FP32", "BF16", "INT8"],
        }

    def __getattr__(self, name):
        return getattr(self._core, name)

    def get_property(self, device, name):
        return self._told.get(name) or self._core.get_property(device, name)


@pytest.mark.parametrize(
    ("preferred", "flags", "scaled", "precision"),
    [
        ("f32", "avx512_vnni", True, "int8"),
        ("f32", "avx2", True, "float32"),
        ("f32", "avx512_vnni", False, "float32"),
        ("bf16", "avx512_vnni", True, "bfloat16"),
    ],
)
def test_auto_takes_bfloat16_then_int8_on_a_cpu_that_is_made_for_it(
    wide_weights, tmp_path, monkeypatch, preferred, flags, scaled, precision
):
    if scaled:
        ranged(wide_weights)
    openvino = import_openvino()
    core = OtherCpu(openvino.Core(), getattr(openvino.Type, preferred))
    monkeypatch.setattr(openvino_module, "open_core", lambda _: core)
    monkeypatch.setattr(openvino_module, "cpu_fields", lambda: {"flags": flags})
    assert backend(wide_weights, tmp_path, "auto")._precisions[0] == precision


def test_the_bar_of_int8_is_kept_with_the_verdict():
    assert not CheckResult({"rainy": 48.0}).passed
    kept = CheckResult({"rainy": 48.0}, bar_db=INT8_AGREEMENT_DB)
    assert kept.passed and CheckResult(**kept.to_dict()).passed
