import csv

import cv2
import numpy as np
import pytest
import torch

from vderain.errors import OptionError
from vderain.training.trainer import TrainConfig, Trainer, supervised_loss


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(3):
        picture = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (96, 64))
        (tmp_path / "clean").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "clean" / f"{index}.png"), picture)
    return tmp_path


def config(**changes):
    sources = {"clean": {"reader": "clean", "path": "clean", "share": 1.0}}
    settings = {"batch": 2, "patch": 32, "steps": 30, "warmup_steps": 5, "checkpoint_every": 10}
    return TrainConfig(sources=sources, **{**settings, **changes})


def test_training_lowers_the_loss_and_keeps_a_log_and_a_checkpoint(data, tmp_path):
    trainer = Trainer(config(), tmp_path / "run")
    trainer.train(data)
    with (tmp_path / "run" / "log.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 3 and losses[-1] < 0.7 * losses[0]
    assert trainer.checkpoint.exists() and not list((tmp_path / "run").glob("*.part"))


def test_a_run_goes_on_from_its_checkpoint(data, tmp_path):
    Trainer(config(steps=10), tmp_path / "run").train(data)
    trainer = Trainer(config(steps=20), tmp_path / "run")
    trainer.load()
    assert trainer.step == 10
    trainer.train(data)
    assert trainer.step == 20


def test_an_infinite_loss_stops_with_the_last_good_state(data, tmp_path):
    trainer = Trainer(config(), tmp_path / "run")
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(float("nan"))
    with pytest.raises(ArithmeticError, match="checkpoint"):
        trainer.train(data)


def test_supervised_loss_weighs_both_answers():
    rainy, background = torch.full((1, 3, 2, 2), 0.8), torch.full((1, 3, 2, 2), 0.5)
    streaks, detail = torch.full_like(rainy, 0.2), torch.full_like(rainy, -0.05)
    for weight in (1.0, 3.0):
        loss = supervised_loss(rainy, background, streaks, detail, 0.1, torch.tensor([weight]))
        assert loss.item() == pytest.approx(weight * (0.1 * 0.1 + 0.05))


def test_settings_that_cannot_work_are_named(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("stepps = 3\n")
    with pytest.raises(OptionError, match="stepps"):
        TrainConfig.load(path)
    with pytest.raises(OptionError, match="tier huge"):
        config(tier="huge")
    with pytest.raises(OptionError, match="patch 30"):
        config(patch=30)
    with pytest.raises(OptionError, match="sources"):
        TrainConfig()


def test_the_shipped_configuration_loads():
    from importlib.resources import as_file, files

    with as_file(files("vderain.training") / "configs" / "fast.toml") as path:
        assert TrainConfig.load(path).tier == "fast"
