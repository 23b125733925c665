"""Files nested deeper than Python reads are refused like any other that cannot be read."""

import pytest

from vderain.errors import OptionError, WeightsError
from vderain.live.config import read_config
from vderain.live.options import LiveOptions
from vderain.network.card import Card
from vderain.options import EncodeOptions, EngineOptions
from vderain.training.config.settings import read_settings

DEEP = "[" * 100_000 + "]" * 100_000


def test_a_weights_card_nested_deeply_is_no_card(tmp_path):
    (tmp_path / "own.json").write_text(f'{{"schema": {DEEP}}}')
    with pytest.raises(WeightsError, match=r"own\.json: not a card"):
        Card.load(tmp_path / "own.safetensors")


def test_cameras_nested_deeply_are_no_toml(tmp_path):
    (tmp_path / "cameras.toml").write_text(f"camera = {DEEP}")
    with pytest.raises(OptionError, match=r"cameras\.toml: is not TOML"):
        read_config(
            tmp_path / "cameras.toml", engine=EngineOptions(), encode=EncodeOptions(), live=LiveOptions()
        )  # fmt: skip


def test_a_training_configuration_nested_deeply_is_refused(tmp_path):
    (tmp_path / "own.toml").write_text(f"steps = {DEEP}")
    with pytest.raises(OptionError, match=r"own\.toml"):
        read_settings(tmp_path / "own.toml")
