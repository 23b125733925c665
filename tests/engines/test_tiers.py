"""Which tier runs, and why."""

import pytest

from vderain.engines import open_engine, registry
from vderain.engines.tiers import (
    TierChoice,
    camera_frames,
    camera_tiers,
    chosen,
    weights_of,
    with_tier,
)
from vderain.errors import OptionError
from vderain.frames import PlaneFormat
from vderain.options import SHIPPED_TIERS, EngineOptions
from vderain.weights import find_weights


@pytest.mark.parametrize("tier", SHIPPED_TIERS)
def test_every_tier_has_weights_and_a_card_of_its_name(tier):
    _, card = find_weights(tier)
    assert card.tier == tier
    assert weights_of(EngineOptions(tier=tier))[1] == card


def test_without_an_nvidia_gpu_files_get_fast(monkeypatch):
    monkeypatch.setattr(registry, "has_nvidia_gpu", lambda: False)
    choice = chosen(EngineOptions())
    assert choice.tier == "fast" and "NVIDIA" in choice.reason
    assert with_tier(EngineOptions()).tier == "fast"


def test_a_usable_nvidia_gpu_gets_the_best_tier(monkeypatch):
    monkeypatch.setattr(registry, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(registry, "package_version", lambda *names: "2.11.0")
    assert chosen(EngineOptions()).tier == SHIPPED_TIERS[0]
    assert "NVIDIA GPU" in chosen(EngineOptions()).reason
    assert chosen(EngineOptions(device="cpu")).tier == "fast", "asked to run on the CPU"
    assert chosen(EngineOptions(engine="openvino")).tier == "fast"


def test_a_gpu_that_torch_cannot_use_changes_nothing(monkeypatch):
    monkeypatch.setattr(registry, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(registry, "package_version", lambda *names: "2.11.0+cpu")
    assert chosen(EngineOptions()).tier == "fast"


def test_a_tier_or_weights_by_name_need_no_reason():
    assert chosen(EngineOptions(tier="fast")) == TierChoice("fast")
    assert chosen(EngineOptions(weights="mine.safetensors")).reason == ""


def test_an_unknown_tier_is_named_with_those_that_there_are():
    with pytest.raises(OptionError, match=r"tier='huge': choose one of auto, .*fast"):
        EngineOptions(tier="huge")


def test_a_camera_may_fall_back_to_every_faster_tier(weights):
    assert camera_tiers(EngineOptions(tier=SHIPPED_TIERS[0])) == SHIPPED_TIERS
    assert camera_tiers(EngineOptions(tier=SHIPPED_TIERS[-1])) == SHIPPED_TIERS[-1:]
    own = EngineOptions(weights=str(weights))
    assert camera_tiers(own) == (weights_of(own)[1].tier,), "nothing replaces the user's weights"


def test_a_camera_keeps_as_many_frames_as_its_networks_see(weights):
    seen = [find_weights(tier)[1].config.frames for tier in SHIPPED_TIERS]
    assert camera_frames(EngineOptions(tier=SHIPPED_TIERS[0])) == max(seen) >= 9
    own = EngineOptions(weights=str(weights))
    assert camera_frames(own) == find_weights("any", str(weights))[1].config.frames


def test_the_engine_says_why_its_tier_was_chosen(weights):
    engine = open_engine(EngineOptions(device="cpu"))
    assert engine.open(PlaneFormat("yuv420", 64, 48)).tier_reason
    engine.close()
    named = open_engine(EngineOptions(weights=str(weights)))
    assert named.open(PlaneFormat("yuv420", 64, 48)).tier_reason == ""
    named.close()
