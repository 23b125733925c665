import os
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn

from tests.networks import TINY
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.training import distributed
from vderain.training.distributed import World, average_gradients, joined_world

WORKER = """
import sys
import torch
from tests.networks import TINY
from vderain.training.config.semi_drdnet import TrainConfig
from vderain.training.distributed import joined_world
from vderain.training.train import Trainer
from pathlib import Path

torch.set_num_threads(1)
sources = {"charts": {"reader": "charts", "path": "", "share": 1.0}}
config = TrainConfig(sources=sources, network=TINY.to_dict(), steps=3, batch=1, patch=32)
run = Path(sys.argv[1])
with joined_world("cpu") as world:
    trainer = Trainer(config, run, world)
    trainer.train(run)
    torch.save(trainer.network.state_dict(), run / f"rank{world.rank}.pt")
"""


@pytest.mark.slow
def test_two_processes_hold_the_same_weights_and_one_of_them_saves(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment = {**os.environ, **shared, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    try:
        assert [worker.wait(120) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    for name, _ in SemiDRDNet(TINY).named_parameters():
        assert torch.equal(first[name], second[name]), name
    # They saw different patches: what batch normalisation gathered shows it.
    assert any(not torch.equal(first[name], second[name]) for name in first if "mean" in name)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint.pt",
        "log.csv",
        "rank0.pt",
        "rank1.pt",
    ]


def test_alone_nothing_is_exchanged():
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 3.0)
    average_gradients([parameter], World())
    assert parameter.grad.tolist() == [3.0, 3.0]


def test_a_gradient_that_one_process_lacks_counts_as_zero(monkeypatch):
    """The other process has gradients 4 and 6 for the first two of three parameters."""

    def add_other(flat):
        flat += torch.tensor([1.0, 1.0, 0.0, 4.0, 6.0, 0.0])

    monkeypatch.setattr(distributed.torch.distributed, "all_reduce", add_other)
    parameters = [nn.Parameter(torch.ones(1)) for _ in range(3)]
    parameters[0].grad = torch.full((1,), 2.0)
    average_gradients(parameters, World(0, 2))
    assert [parameters[0].grad.item(), parameters[1].grad.item()] == [3.0, 3.0]
    assert parameters[2].grad is None  # nobody has one: an optimiser leaves it alone


def test_each_process_takes_the_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(distributed.torch, "empty", lambda *_, **__: None)
    with joined_world("cuda") as world:
        assert world.device == torch.device("cuda", 3)
