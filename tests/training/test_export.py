import json
import os

import pytest
import torch

from tests.networks import TINY
from vderain.errors import OptionError, SinkError, WeightsError
from vderain.network.card import Card
from vderain.training.checkpoint import load_checkpoint, save_checkpoint
from vderain.training.config import TrainConfig
from vderain.training.distributed import World
from vderain.training.export import export_weights, hardware, read_scores
from vderain.training.trainer import Trainer
from vderain.weights import find_weights, load_network


@pytest.fixture
def run(tmp_path):
    sources = {"charts": {"reader": "charts", "path": "", "share": 1.0}}
    settings = {"steps": 2, "batch": 1, "patch": 32, "data": "charts", "terms": "none"}
    config = TrainConfig(sources=sources, network=TINY.to_dict(), **settings)
    Trainer(config, tmp_path / "run").train(tmp_path)
    return tmp_path / "run"


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
    assert card.scores == {"dev": {"psnr_after_db": 30.0}}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "mine.json",
        "mine.safetensors",
        "run",
    ]


def test_existing_weights_are_only_replaced_on_demand(run, tmp_path):
    weights = tmp_path / "mine.safetensors"
    weights.write_bytes(b"mine")
    with pytest.raises(SinkError, match="--overwrite"):
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


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_cannot_be_written_is_named(run, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(SinkError, match="closed"):
        export_weights(run, closed / "mine.safetensors")


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
