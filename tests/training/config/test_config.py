from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from vderain.errors import OptionError
from vderain.training.config.methods import load_config, state_config
from vderain.training.config.nlcl import NlclTrainConfig
from vderain.training.config.semi_drdnet import TrainConfig
from vderain.training.config.stages import load_recipe

SOURCES = {"clean": {"reader": "clean", "path": "clean", "share": 1.0}}


def write(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_text(text + '\n[sources.clean]\nreader = "clean"\npath = "clean"\nshare = 1.0\n')
    return path


def test_an_override_wins_over_a_value_and_a_value_over_the_file(tmp_path):
    path = write(tmp_path, "steps = 10\nbatch = 3\nlearning_rate = 0.5")
    config = TrainConfig.load(
        path, ["batch=4", "penalty=mse", "learning_rate=0.25"], steps=7, batch=5
    )
    assert (config.steps, config.batch, config.penalty, config.learning_rate) == (7, 4, "mse", 0.25)
    assert config.sources["clean"]["path"] == "clean"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stepps = 3", "stepps"),
        ("steps = 0", "steps=0"),
        ('steps = "many"', "steps must be int"),
        ('tier = "huge"', "tier='huge'"),
        ("patch = 30", "patch 30"),
        ("dry_share = 1.5", "dry_share=1.5"),
        ("network = {width = 3}", "network"),
        ("network = {rain_width = 0}", "rain_width"),
        ("steps = = 3", "not a readable configuration"),
    ],
)
def test_settings_that_cannot_work_are_named_with_their_file(tmp_path, text, told):
    with pytest.raises(OptionError, match=told) as caught:
        TrainConfig.load(write(tmp_path, text))
    assert "c.toml" in str(caught.value)


def test_a_run_needs_a_source_and_real_rain_for_unpaired_images():
    with pytest.raises(OptionError, match="sources"):
        TrainConfig()
    with pytest.raises(OptionError, match="unpaired"):
        TrainConfig(sources=SOURCES, unpaired=SOURCES)


def test_an_error_for_a_missing_file_lists_the_shipped_recipes(tmp_path):
    with pytest.raises(OptionError, match="fast"):
        TrainConfig.load(tmp_path / "none.toml")
    with pytest.raises(OptionError, match="name=value"):
        TrainConfig.load(Path("paper"), ["steps"])


def test_the_shipped_configurations_load_by_their_name():
    names = [
        path.name.removesuffix(".toml")
        for path in (files("vderain.training") / "recipes").iterdir()
    ]
    trained = [name for name in names if name != "dev"]  # that one lists sets to score
    assert {"fast", "paper", "nlcl"} <= set(trained)
    for name in trained:
        for stage in load_recipe(Path(name)):
            config = stage.config
            if isinstance(config, NlclTrainConfig):
                assert config.real
            else:
                assert stage.average or config.sources


def test_a_config_survives_its_own_dictionary():
    config = TrainConfig(sources=SOURCES, network={"rain_width": 8}, steps=3)
    assert TrainConfig.from_dict(config.to_dict(), "a checkpoint") == config
    assert config.network_config.rain_width == 8
    assert config.differences(replace(config, steps=4)) == {"steps": (3, 4)}


def test_a_checkpoint_keeps_the_whole_network_whatever_becomes_of_its_tier():
    config = TrainConfig(sources=SOURCES, network={"rain_width": 4})
    state = {"method": "semi_drdnet", "config": config.to_state()}
    assert state["config"]["network"] == config.network_config.to_dict()
    assert state_config(state, Path("run")) == config


def test_a_checkpoint_of_the_five_frames_that_fast_had_before_is_read_as_that(tmp_path):
    before = TrainConfig(sources=SOURCES, network={"rain_width": 8}).to_dict()
    config = state_config({"method": "semi_drdnet", "config": before}, Path("run"))
    network = config.network_config
    assert (network.frames, network.fusion, network.seen_ranks) == (5, "gates", (0, 1, 2, 3))
    assert network.rain_width == 8


def test_a_dotted_setting_changes_one_entry_of_a_table(tmp_path):
    path = write(tmp_path, "network = {rain_width = 8, rain_blocks = 3}")
    config = TrainConfig.load(path, ["network.rain_width=4", "sources.clean.share=0.5"])
    assert config.network == {"rain_width": 4, "rain_blocks": 3}
    assert config.sources["clean"] == {"reader": "clean", "path": "clean", "share": 0.5}
    whole = TrainConfig.load(path, ["network={rain_width=4}"])
    assert whole.network == {"rain_width": 4}


def test_a_source_without_a_name_is_refused(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[sources]\npath = "clean"\nshare = 1.0\n')
    with pytest.raises(OptionError, match=r"c\.toml.*\[sources\.NAME\]"):
        TrainConfig.load(path)


def test_a_folder_named_as_a_shipped_configuration_does_not_hide_it(tmp_path, monkeypatch):
    (tmp_path / "paper").mkdir()
    monkeypatch.chdir(tmp_path)
    assert TrainConfig.load(Path("paper")).tier == "paper"


def test_the_vgg_encoder_needs_its_weights():
    with pytest.raises(OptionError, match="encoder_weights"):
        TrainConfig(sources=SOURCES, encoder="vgg19")


def test_each_method_knows_its_own_settings_only(tmp_path):
    assert NlclTrainConfig.load(Path("nlcl"), ["network.width=8"]).network_config.width == 8
    with pytest.raises(OptionError, match=r"nlcl: is of method nlcl, not semi_drdnet"):
        TrainConfig.load(Path("nlcl"))
    with pytest.raises(OptionError, match=r"nlcl: unknown settings dry_share"):
        load_config(Path("nlcl"), ["dry_share=0.1"])
    with pytest.raises(OptionError, match=r"paper: unknown settings layer_contrast"):
        load_config(Path("paper"), ["layer_contrast=0"])
    with pytest.raises(OptionError, match=r"method magic: choose one of semi_drdnet, nlcl"):
        load_config(Path("nlcl"), ["method=magic"])
    with pytest.raises(OptionError, match=r"unpaired: name at least one folder of clean"):
        NlclTrainConfig(real=SOURCES)
    with pytest.raises(OptionError, match="compiled: not for nlcl"):
        NlclTrainConfig(real=SOURCES, unpaired=SOURCES, compiled=True)
    with pytest.raises(OptionError, match="network: width must be a whole number"):
        NlclTrainConfig(real=SOURCES, unpaired=SOURCES, network={"width": 0})


def test_a_checkpoint_that_names_no_method_is_of_the_first_one():
    config = TrainConfig(sources=SOURCES, steps=3)
    state = {"config": config.to_state()}
    assert state_config(state, Path("old.pt")) == config
    assert "method" not in config.to_state()  # a teacher's predictions are known by these settings
    other = NlclTrainConfig(real=SOURCES, unpaired=SOURCES)
    state = {"config": other.to_dict(), "method": "nlcl"}
    assert state_config(state, Path("new.pt")) == other
