from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.networks import MEDIAN, TINY
from tests.training.runs import config
from vderain.errors import OptionError, SourceError
from vderain.network.card import Card
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.training.distributed import World
from vderain.training.methods.batches import StepBatch, step_batches
from vderain.training.methods.semi_drdnet import SemiDrdnetObjective
from vderain.training.train import Trainer
from vderain.weights import save_network

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_student_learns_the_predictions_of_its_teacher(data, tmp_path):
    path = tmp_path / "teacher.safetensors"
    with torch.no_grad():
        teacher = SemiDRDNet(TINY)
        teacher.rain.tail.weight.zero_()
        teacher.rain.tail.bias.fill_(0.25)  # takes the same light from every pixel
        teacher.detail.tail.weight.zero_()
        teacher.detail.tail.bias.zero_()
    save_network(teacher, path, Card("fast", TINY, ""))
    settings = {"teacher": str(path), "teacher_patches": 4, "teacher_share": 1.0, "steps": 60}
    trainer = Trainer(config(learning_rate=1e-2, **settings), tmp_path / "run")
    trainer.train(data)
    rainy = torch.rand(1, 3, 32, 32)
    assert trainer.averaged.eval().change(rainy).mean().item() == pytest.approx(-0.25, abs=0.1)
    predictions = (tmp_path / "run" / "teacher" / "answer.npy").stat().st_mtime_ns
    Trainer(config(learning_rate=1e-2, **{**settings, "steps": 61}), tmp_path / "run").train(data)
    assert (tmp_path / "run" / "teacher" / "answer.npy").stat().st_mtime_ns == predictions


def test_a_student_whose_predictions_are_there_opens_no_source(data, tmp_path):
    path = tmp_path / "teacher.safetensors"
    save_network(SemiDRDNet(TINY), path, Card("fast", TINY, ""))
    taught = config(teacher=str(path), teacher_patches=2)
    first = next(step_batches(taught, data, tmp_path / "run", 0, World()))
    again = next(step_batches(taught, tmp_path / "nowhere", tmp_path / "run", 0, World()))
    assert torch.equal(first.rainy, again.rainy)
    with pytest.raises(SourceError, match="nowhere"):
        step_batches(taught, tmp_path / "nowhere", tmp_path / "other", 0, World())


def test_a_student_sees_the_patches_that_its_teacher_saw(data, tmp_path):
    path = tmp_path / "teacher.safetensors"
    save_network(SemiDRDNet(TINY), path, Card("fast", TINY, ""))
    taught = config(teacher=str(path), teacher_patches=2, batch=2)
    plain = next(step_batches(config(batch=2), data, tmp_path, 0, World()))
    drawn = next(step_batches(taught, data, tmp_path / "run", 0, World()))
    for name in ("rainy", "background"):
        whole, own = getattr(drawn, name), getattr(plain, name)
        found = [[(a - b).abs().max() < 1e-3 for b in (*own, *own.flip(3))] for a in whole]
        assert all(map(any, found)), name


def test_a_student_sees_its_own_ranks_of_what_its_teacher_saw(data, tmp_path):
    path = tmp_path / "teacher.safetensors"
    larger, smaller = replace(MEDIAN, ranks=(0, 1, 2)), replace(MEDIAN, ranks=(1, 2))
    save_network(SemiDRDNet(larger), path, Card("fast", larger, ""))
    network = smaller.to_dict()
    taught = config(teacher=str(path), teacher_patches=8, batch=8, network=network)
    plain = next(step_batches(config(batch=8, network=network), data, tmp_path, 0, World())).rainy
    drawn = next(step_batches(taught, data, tmp_path / "run", 0, World())).rainy
    assert drawn.shape == plain.shape and plain[:, 3:].abs().max() > 0
    for whole in drawn:
        assert any((whole - own).abs().max() < 1e-3 for own in (*plain, *plain.flip(3)))


def test_a_teacher_that_sees_less_than_its_student_is_refused(data, tmp_path):
    path = tmp_path / "teacher.safetensors"
    save_network(SemiDRDNet(MEDIAN), path, Card("fast", MEDIAN, ""))
    taught = config(teacher=str(path), network=replace(MEDIAN, ranks=(0, 1, 2)).to_dict())
    with pytest.raises(OptionError, match=r"sees the neighbours' ranks \(1, 2\).*\(0, 1, 2\)"):
        step_batches(taught, data, tmp_path / "run", 0, World())


def test_a_tier_is_a_teacher_by_its_name(data, tmp_path):
    taught = config(tier="light", network={}, teacher="fast", teacher_patches=2)
    batch = next(step_batches(taught, data, tmp_path / "run", 0, World()))
    assert (batch.answer - batch.rainy[:, :3]).abs().max() > 0 and batch.rainy.shape[1] == 6


def test_the_target_lies_between_ground_truth_and_answer():
    losses = {}
    still = SemiDRDNet(TINY)
    for parameter in still.parameters():
        torch.nn.init.zeros_(parameter)  # gives back what it is given
    dark, light = torch.zeros(2, 3, 32, 32), torch.ones(2, 3, 32, 32)
    for share in (0.0, 0.25, 1.0):
        run = config(teacher="fast", teacher_share=share, penalty="mse", derained_weight=0.0)
        batch = StepBatch(0.5 * light, dark, light[:, :1], answer=light)
        losses[share] = SemiDrdnetObjective(run)(still, batch, 0)["loss"].item()
    assert losses == pytest.approx({0.0: 0.25, 0.25: 0.0625, 1.0: 0.25})


def test_predictions_for_another_number_of_frames_are_not_taken(data, tmp_path):
    path = tmp_path / "teacher.safetensors"
    save_network(SemiDRDNet(TINY), path, Card("fast", TINY, ""))
    for frames in (1, 3):
        network = {**TINY.to_dict(), "frames": frames}
        taught = config(teacher=str(path), teacher_patches=2, network=network)
        batch = next(step_batches(taught, data, tmp_path / "run", 0, World()))
        assert batch.rainy.shape[1] == 3 + frames - 1


def test_every_process_asks_the_teacher_for_its_own_patches_before_training(data, tmp_path):
    path = tmp_path / "teacher.safetensors"
    save_network(SemiDRDNet(TINY), path, Card("fast", TINY, ""))
    taught = config(teacher=str(path), teacher_patches=2)
    for rank in range(2):
        step_batches(taught, data, tmp_path / "run", 0, World(rank, 2))  # nothing is drawn
    first, second = (np.load(tmp_path / "run" / n / "rainy.npy") for n in ("teacher", "teacher-1"))
    assert not np.array_equal(first, second)
