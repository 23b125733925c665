"""Runs of NLCL: resumed, exported, refused."""

import csv

import cv2
import numpy as np
import pytest
import torch

from tests.networks import TINY, TINY_NLCL
from tests.training.methods.nlcl.configs import DRY, TERMS, config
from vderain.api import Derainer
from vderain.errors import OptionError, SourceError, TrainingError, WeightsError
from vderain.metrics import mean_psnr, psnr
from vderain.network.build import build_network
from vderain.network.card import Card
from vderain.network.config import NlclConfig
from vderain.options import EngineOptions
from vderain.training.config.semi_drdnet import TrainConfig
from vderain.training.distributed import World
from vderain.training.evaluation.scores import network_cost
from vderain.training.export import export_weights
from vderain.training.methods.batches import step_batches
from vderain.training.methods.nlcl.objective import NlclObjective, footage_tables
from vderain.training.train import Trainer
from vderain.weights import save_network

pytestmark = pytest.mark.usefixtures("one_thread")


def states(trainer):
    parts = {"n": trainer.network, "a": trainer.averaged, "o": trainer.objective}
    return {f"{p}.{n}": v.clone() for p, m in parts.items() for n, v in m.state_dict().items()}


def test_the_losses_of_the_first_steps_are_what_they_were(data, tmp_path):
    """Golden figures: a change of data, losses or network that nobody meant shows here."""
    trainer = Trainer(config(learning_rate=1e-3), tmp_path / "run")
    batches = trainer.objective.batches(data, tmp_path, 0, World())
    terms = [trainer.train_step(next(batches)) for _ in range(3)]
    for name, values in GOLDEN.items():
        assert [one[name] for one in terms] == pytest.approx(values, rel=1e-2), name


GOLDEN = {
    "consistency": [0.20467, 0.21127, 0.21777],
    "sparsity": [0.33291, 0.31947, 0.33314],
    "adversarial": [1.87374, 1.07715, 1.42667],
    "layer_contrast": [6.45705, 6.03334, 5.46166],
    "location_contrast": [7.23148, 7.94745, 7.08722],
}


def test_a_resumed_run_equals_the_uninterrupted_one(data, tmp_path):
    settings = {"steps": 4, "checkpoint_every": 2}
    whole = Trainer(config(**settings), tmp_path / "whole")
    whole.train(data)

    class KilledError(Exception):
        pass

    def kill(progress):
        if progress.step == 3:  # a step after the checkpoint of step 2
            raise KilledError

    with pytest.raises(KilledError):
        Trainer(config(**settings), tmp_path / "killed").train(data, kill)
    resumed = Trainer(config(**settings), tmp_path / "killed")
    resumed.resume()
    assert resumed.step == 2
    resumed.train(data)
    for (name, ours), theirs in zip(states(resumed).items(), states(whole).values(), strict=True):
        assert torch.equal(ours, theirs), name
    with (tmp_path / "killed" / "log.csv").open() as file:
        assert set(TERMS) < set(csv.DictReader(file).fieldnames)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains(data, tmp_path, precision):
    trainer = Trainer(config(precision=precision, steps=1), tmp_path / "run")
    trainer.train(data)
    assert trainer.step == 1


def test_a_loss_that_is_no_number_stops_with_the_last_good_state(data, tmp_path):
    trainer = Trainer(config(), tmp_path / "run")
    with torch.no_grad():
        trainer.objective.rain.tail.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"step 1: the loss is nan"):
        trainer.train(data)
    assert not trainer.checkpoint.exists()


def test_weights_of_terms_may_change_on_the_way_and_the_method_may_not(data, tmp_path):
    Trainer(config(steps=1), tmp_path / "run").train(data)
    longer = Trainer(config(steps=2, layer_contrast=0.5), tmp_path / "run")
    longer.resume()
    assert longer.history == ["from step 1: layer_contrast 1.0 -> 0.5", "from step 1: steps 1 -> 2"]
    with pytest.raises(OptionError, match=r"another configuration.*encoder_width"):
        Trainer(config(encoder_width=8), tmp_path / "run").resume()
    other = TrainConfig(sources=DRY, network=TINY.to_dict(), patch=32)
    with pytest.raises(OptionError, match=r"method nlcl, this is semi_drdnet"):
        Trainer(other, tmp_path / "run").resume()


def weights_of(path, network_config):
    save_network(build_network(network_config), path, Card("mine", network_config, ""))
    return str(path)


def test_weights_of_the_other_network_are_refused_by_name(data, tmp_path):
    semi = weights_of(tmp_path / "semi.safetensors", TINY)
    nlcl = weights_of(tmp_path / "nlcl.safetensors", TINY_NLCL)
    with pytest.raises(WeightsError, match=r"semi\.safetensors.*is semi_drdnet, not nlcl"):
        Trainer(config(initial=semi), tmp_path / "run")
    with pytest.raises(WeightsError, match=r"nlcl\.safetensors.*has width 8, not 4"):
        Trainer(config(initial=nlcl, network={"width": 4, "blocks": 2}), tmp_path / "run")
    assert Trainer(config(initial=nlcl), tmp_path / "run").network.config == TINY_NLCL


def test_nlcl_weights_can_teach_the_other_network(data, tmp_path):
    nlcl = weights_of(tmp_path / "nlcl.safetensors", TINY_NLCL)
    settings = {"patch": 32, "batch": 1, "teacher": nlcl, "teacher_patches": 1}
    taught = TrainConfig(sources=DRY, network=TINY.to_dict(), **settings)
    batch = next(step_batches(taught, data, tmp_path / "run", 0, World()))
    assert (batch.answer - batch.rainy).abs().max() > 0


# From a run to weights that work.


def test_exported_weights_run_and_their_card_says_how_far_dry_images_move(data, tmp_path):
    Trainer(config(steps=2, tier="mine"), tmp_path / "run").train(data)
    weights = tmp_path / "mine.safetensors"
    card = export_weights(tmp_path / "run", weights, scores={"dev": {"psnr_db": 1.0}})
    assert (card.network, card.tier, card.config) == ("nlcl", "mine", TINY_NLCL)
    assert str(tmp_path) not in weights.with_suffix(".json").read_text()
    images = [cv2.imread(str(path))[..., ::-1] for path in sorted((data / "dry").iterdir())]
    with Derainer(EngineOptions(weights=str(weights), engine="reference")) as derainer:
        moved = mean_psnr([psnr(derainer(image), image) for image in images])
    assert card.scores["dry_psnr_db"] == pytest.approx(moved, abs=0.05)
    assert card.scores["dev"] == {"psnr_db": 1.0}


def test_a_run_whose_clean_images_are_gone_is_exported_without_that_figure(data, tmp_path, caplog):
    Trainer(config(steps=1), tmp_path / "run").train(data)
    (data / "dry").rename(data / "elsewhere")
    card = export_weights(tmp_path / "run", tmp_path / "mine.safetensors")
    assert card.scores == {"dry_psnr_db": None}
    assert "how far dry images move" in caplog.text


def test_folders_of_footage_become_sources(data):
    (data / "wet" / "a.mp4").touch()
    tables = footage_tables([data / "wet", data / "dry"], rainy=True)
    assert [table["reader"] for table in tables.values()] == ["rainy_clips", "real", "real"]
    assert [table["reader"] for table in footage_tables([data / "dry"], rainy=False).values()] == [
        "clean"
    ]
    (data / "none").mkdir()
    with pytest.raises(SourceError, match="none: no images or clips"):
        footage_tables([data / "none"], rainy=False)


def test_the_cost_is_reported_like_that_of_the_other_network():
    cost = network_cost(NlclConfig())
    assert cost.parameters == 316_195
    assert cost.gflop_720p == pytest.approx(580.7, abs=0.1)


def test_batches_hold_rainy_and_clean_images_and_depend_on_the_step_alone(data, tmp_path):
    cv2.imwrite(str(data / "wet" / "0.png"), np.zeros((64, 96, 3), np.uint8))
    for index in (1, 2):
        (data / "wet" / f"{index}.png").unlink()
    objective = NlclObjective(config(batch=3))
    first, second = (next(objective.batches(data, tmp_path, step, World())) for step in (0, 1))
    again = list(zip(range(2), objective.batches(data, tmp_path, 0, World()), strict=False))
    assert torch.equal(again[1][1].clean, second.clean)
    assert first.rainy.shape == first.clean.shape == (3, 3, 32, 32)
    assert float(first.rainy.max()) == 0 < float(first.clean.min())
    assert not torch.equal(first.clean, second.clean)
