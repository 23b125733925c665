"""One process or many (``torchrun``): who this process is, and the mean of all gradients."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vderain.errors import OptionError


@dataclass(frozen=True, slots=True)
class World:
    """The processes that train together; ``rank`` 0 saves and logs."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  # immutable


@contextmanager
def joined_world(device: str | None = None) -> Iterator[World]:
    """Join the processes that ``torchrun`` started, or stay alone; each takes the GPU of its local rank.

    Raises OptionError for a device that is not there.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if chosen.type == "cuda" and chosen.index is None:
            chosen = torch.device("cuda", local)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without CUDA
        reason = str(error).splitlines()[0]
        raise OptionError(f"device={device!r}: cannot be used ({reason}); try cpu") from None
    if size == 1:
        yield World(device=chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(torch.distributed.get_rank(), size, chosen)
    finally:
        torch.distributed.destroy_process_group()


def wait_for_all(world: World) -> None:
    """Return when every process has come here."""
    if world.size > 1:
        torch.distributed.barrier()


def average_gradients(parameters: Iterable[nn.Parameter], world: World) -> None:
    """Replace each gradient by its mean over the world, in one exchange.

    Where only some processes have one, say because a batch held no rain, the others count as zero.
    """
    if world.size == 1:
        return
    parameters = list(parameters)
    own = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    held = own[0].new_tensor([p.grad is not None for p in parameters])
    flat = torch.cat([held, *(gradient.flatten() for gradient in own)])
    torch.distributed.all_reduce(flat)
    held, *means = torch.split(flat, [len(own), *(gradient.numel() for gradient in own)])
    for parameter, has, mean in zip(parameters, held.tolist(), means, strict=True):
        if has:
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
            parameter.grad.copy_(mean.view_as(parameter) / world.size)


def broadcast_state(modules: Iterable[nn.Module], world: World) -> None:
    """Give all processes the state of rank 0."""
    if world.size == 1:
        return
    for module in modules:
        for value in module.state_dict().values():
            _broadcast(value)


def _broadcast(value: Tensor) -> None:
    torch.distributed.broadcast(value, src=0)
