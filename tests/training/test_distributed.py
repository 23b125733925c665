import os
import socket
import subprocess
import sys

import torch
from torch import nn

from tests.networks import TINY
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.training.distributed import World, average_gradients

WORKER = """
import sys
import torch
from tests.networks import TINY
from vderain.training.config import TrainConfig
from vderain.training.distributed import joined_world
from vderain.training.trainer import Trainer
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
    assert [worker.wait(120) for worker in workers] == [0, 0]
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
