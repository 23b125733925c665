import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.networks import COARSE, TINY
from vderain.errors import OptionError, SinkError, SourceError, WeightsError
from vderain.network.build import build_network
from vderain.network.card import Card
from vderain.network.inference.fold import fold
from vderain.network.inference.quantize import quantizable
from vderain.training.checkpoint import load_checkpoint, save_checkpoint
from vderain.training.config.methods import load_config
from vderain.training.config.semi_drdnet import TrainConfig
from vderain.training.distributed import World
from vderain.training.export import command, export_weights, hardware, read_scores
from vderain.training.train import Trainer
from vderain.weights import find_weights, load_network, save_network


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("trained")
    sources = {"charts": {"reader": "charts", "path": "", "share": 1.0}}
    settings = {"steps": 2, "batch": 1, "patch": 32, "data": "charts", "terms": "none"}
    config = TrainConfig(sources=sources, network=TINY.to_dict(), **settings)
    Trainer(config, folder / "run").train(folder)
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    """The same, to be spoiled by the test."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_exported_weights_are_the_averaged_ones_and_the_card_says_how_they_came(run, tmp_path):
    weights = tmp_path / "mine.safetensors"
    card = export_weights(run, weights, scores={"dev": {"psnr_after_db": 30.0}})
    path, found = find_weights("fast", str(weights))
    assert found == Card.load(weights) == card
    averaged = load_checkpoint(run / "checkpoint.pt")["averaged"]
    for name, value in load_network(path, found).state_dict().items():
        assert torch.allclose(value.double(), averaged[name].double(), atol=1e-3)
    assert (card.training["steps"], card.data, card.terms) == (2, "charts", "none")
    assert card.training["config"]["batch"] == 1 and card.training["torch"]
    assert card.training["command"].startswith("vderain train CONFIG --set ")
    assert card.scores == {"dev": {"psnr_after_db": 30.0}}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "mine.json",
        "mine.safetensors",
        "run",
    ]


@pytest.mark.parametrize(("name", "overrides"), [
    ("paper", ["steps=9", "network={rain_width = 8}", "sources.heavy.share=0.5", "penalty=mse"]),
    ("paper", ['sources={"my own" = {reader = "charts", path = ""}}']),
    ("paper", ['sources={own = {reader = "clips", path = "my \\"clips\\""}}', "compiled=true"]),
    ("nlcl_cpu", ["location_contrast=1e-9"]),
])  # fmt: skip
def test_the_cards_command_repeats_the_run(name, overrides):
    config = load_config(Path(name), overrides)
    words = shlex.split(command(config))
    assert words[:3] == ["vderain", "train", name]
    assert words[3::2] == ["--set"] * len(words[4::2]) and len(words[4::2]) == len(overrides)
    assert load_config(Path(name), words[4::2]) == config


def test_the_command_on_a_card_repeats_the_run_without_its_folders():
    config = load_config(
        Path("nlcl_cpu"), ["tier=mine", "steps=7", "initial=/somewhere/w.safetensors"]
    )
    words = shlex.split(command(config))
    assert words[:3] == ["vderain", "train", "CONFIG"] and "/somewhere" not in " ".join(words)
    again = load_config(Path("nlcl"), words[4::2])
    assert again == replace(config, initial="w.safetensors", data=again.data, terms=again.terms)


WIDE = replace(COARSE, rain_width=16, coarse_blocks=(1,), unshuffle=2)


@pytest.mark.slow
def test_the_card_has_what_int8_needs_measured_on_the_runs_sources(tmp_path):
    sources = {"charts": {"reader": "charts", "path": "", "share": 1.0}}
    config = TrainConfig(sources=sources, network=WIDE.to_dict(), steps=1, batch=1, patch=32)
    Trainer(config, tmp_path / "run").train(tmp_path)
    weights = tmp_path / "mine.safetensors"
    card = export_weights(tmp_path / "run", weights)
    assert card == Card.load(weights)
    assert set(card.int8) == set(quantizable(fold(load_network(weights, card))))
    assert all(low <= 0 < high for low, high in card.int8.values())
    assert export_weights(tmp_path / "run", weights, overwrite=True).int8 == card.int8  # repeatable


def test_weights_get_int8_scales_from_clean_images_and_stay_the_same(tmp_path):
    torch.manual_seed(0)
    source, target = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    save_network(build_network(WIDE).half(), source, Card("mine", WIDE, sha256="", data="d"))
    clean = tmp_path / "clean"
    clean.mkdir()
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3)).astype(np.uint8)
    cv2.imwrite(str(clean / "a.png"), image)
    with pytest.raises(OptionError, match="calibration"):
        export_weights(source, target)
    card = export_weights(source, target, clean=clean)
    assert target.read_bytes() == source.read_bytes()
    assert card.int8 and replace(card, int8={}) == Card.load(source)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="empty"):
        export_weights(source, tmp_path / "other.safetensors", clean=tmp_path / "empty")


def test_existing_weights_are_only_replaced_on_demand(run, tmp_path):
    weights = tmp_path / "mine.safetensors"
    weights.write_bytes(b"mine")
    with pytest.raises(SinkError, match="overwrite=True"):
        export_weights(run, weights)
    assert weights.read_bytes() == b"mine"
    export_weights(run, weights, overwrite=True)
    assert find_weights("fast", str(weights))


def test_what_cannot_be_exported_is_named(run, tmp_path):
    weights = tmp_path / "mine.safetensors"
    with pytest.raises(OptionError, match="safetensors"):
        export_weights(run, tmp_path / "mine.pt")
    with pytest.raises(SinkError, match=r"the folder .*nowhere does not exist"):
        export_weights(run, tmp_path / "nowhere" / "mine.safetensors")
    with pytest.raises(WeightsError, match="no such checkpoint"):
        export_weights(tmp_path / "none.pt", weights)
    state = load_checkpoint(run / "checkpoint.pt")
    del state["averaged"]["rain.tail.weight"]
    save_checkpoint(run / "other.pt", {k: v for k, v in state.items() if k != "schema"})
    with pytest.raises(WeightsError, match=r"other\.pt"):
        export_weights(run / "other.pt", weights)
    assert not weights.exists()


def test_a_place_that_cannot_be_written_is_named_and_nothing_stays_there(run, tmp_path):
    weights = tmp_path / "mine.safetensors"
    weights.with_suffix(".json").mkdir()  # where the card should go
    with pytest.raises(SinkError, match="mine"):
        export_weights(run, weights, overwrite=True)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_weights_get_scores_on_their_card_and_keep_the_rest(run, tmp_path):
    first, scored = tmp_path / "first.safetensors", tmp_path / "scored.safetensors"
    card = export_weights(run, first)
    again = export_weights(first, scored, scores={"dev": {"psnr_after_db": 30.0}})
    assert again.scores == {"dev": {"psnr_after_db": 30.0}}
    lost = export_weights(scored, tmp_path / "third.safetensors", scores={"psnr_lost_db": {}})
    assert lost.scores == {"dev": {"psnr_after_db": 30.0}, "psnr_lost_db": {}}
    assert (again.sha256, again.int8, again.training) == (card.sha256, card.int8, card.training)


def test_scores_are_the_summary_that_evaluate_writes(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"summary": {"dev": {"psnr_after_db": 30.0}}, "sets": []}))
    assert read_scores(path) == {"dev": {"psnr_after_db": 30.0}}
    assert read_scores(None) == {}
    path.write_text("[]")
    with pytest.raises(OptionError, match=r"scores\.json"):
        read_scores(path)


def test_the_hardware_is_what_the_run_used_not_what_the_machine_has(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert hardware(World())["hardware"].endswith("thread(s)")
    assert hardware(World(0, 2))["hardware"].startswith("2 x ")


def test_a_card_names_no_folders_of_the_machine(run, tmp_path):
    state = load_checkpoint(run / "checkpoint.pt")
    state["config"]["sources"]["charts"]["path"] = str(tmp_path / "secret" / "dashcam")
    save_checkpoint(run / "checkpoint.pt", {k: v for k, v in state.items() if k != "schema"})
    card = export_weights(run, tmp_path / "mine.safetensors")
    assert card.training["config"]["sources"]["charts"]["path"] == "dashcam"
    assert str(tmp_path) not in (tmp_path / "mine.json").read_text()
