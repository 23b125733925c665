"""What engines on NVIDIA GPUs share: precisions, as many slots as fit, and the self-check on the device.

Not yet run on a GPU; the tests run all of it but CUDA itself, on a device that stands in.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from vderain.engines.backends.device import Device
from vderain.engines.backends.gpu_slot import GpuSlot, MakeStep, Ports
from vderain.engines.backends.lumas import Lumas
from vderain.engines.backends.reference import ReferenceEngine
from vderain.engines.backends.slots import SlotEngine, first_line
from vderain.engines.engine import check_clip, spec_from_card
from vderain.engines.store.selfcheck import CheckResult, check_engine
from vderain.errors import EngineBuildError, EngineFailedError, EngineLoadError, NoRoomError
from vderain.flow.future import Future
from vderain.frames import Clip, PlaneFormat
from vderain.interfaces import Engine, EngineSpec
from vderain.network.base import ChangeNetwork
from vderain.network.card import Card
from vderain.options import EngineOptions

SLOTS = 3  # one frame in upload, one in the network, one in download

SPARE = 0.85  # share of the free memory that is planned for

_NO_MEMORY = ("out of memory", "ALLOC_FAILED")  # of the driver, and of cuDNN and cuBLAS

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def wanted_precisions(name: str, options: EngineOptions) -> tuple[str, ...]:
    """Precisions to try, in this order: half precision unless another is asked for, then float32."""
    first = "float16" if options.precision == "auto" else options.precision
    if first not in DTYPES:
        raise EngineBuildError(f"precision={first!r}: {name} computes in {', '.join(DTYPES)}")
    return tuple(dict.fromkeys((first, "float32")))


class GpuEngine(SlotEngine[GpuSlot]):
    """``SlotEngine`` that takes frames on the device too, and adds the change before the download.

    It aligns neighbours itself.
    """

    def __init__(self, slots: Sequence[GpuSlot], fmt: PlaneFormat, spec: EngineSpec) -> None:
        super().__init__(slots, fmt, spec)
        self.aligns = spec.frames > 1

    def submit(self, clip: Clip, *, strength: float = 1.0, on_device: bool = False) -> Future:
        """As the protocol says; the change is added on the device."""
        check_clip(clip, self._fmt, self.window, aligns=self.aligns)
        return self._begun(lambda slot: slot.queue(clip, strength, on_device=on_device))


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or its cause, is a lack of memory; libraries' errors have no class for it."""
    while error is not None:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            return True
        if isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY):
            return True
        # torch raises another error at the end of a capture, with the first one as its context.
        error = error.__cause__ or error.__context__
    return False


def make_slots(
    device: Device,
    ports: Ports,
    make_step: MakeStep,
    *,
    wanted: int,
    notes: list[str],
) -> list[GpuSlot]:
    """As many slots as fit into the device's memory, up to ``wanted``; a note where they are fewer.

    Raises MemoryError where not even one fits.
    """
    slots: list[GpuSlot] = []
    lumas: Lumas | None = None
    while len(slots) < wanted:
        try:
            if ports.frames > 1 and lumas is None:
                lumas = Lumas(device, ports.fmt, ports.sample, ports.frames, wanted)
            slots.append(GpuSlot(device, ports, make_step, lumas))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            device.release()
            if not slots:
                raise MemoryError(
                    f"the GPU has no room for a frame of {ports.fmt} "
                    f"({device.free_bytes() >> 20} MiB free)"
                ) from error
            notes.append(
                f"the GPU has room for {len(slots)} of {wanted} frames of {ports.fmt} at once"
            )
            break
    return slots


def check_on_device(
    engine: Engine, network: ChangeNetwork, fmt: PlaneFormat, card: Card, device: Device
) -> CheckResult:
    """Compare an engine with the reference, in float32 on the same device, on all images.

    Raises EngineLoadError where either fails, and NoRoomError where the cause is a lack of memory.
    """
    spec = spec_from_card(card, "reference", "float32", device.name)
    device.release()  # torch's unused memory does not count as free
    free = device.free_bytes()
    try:
        there = copy.deepcopy(network).to(device.torch_device)
        reference = ReferenceEngine(there, fmt, spec, free_bytes=int(SPARE * free))
        try:
            return check_engine(engine, reference, fmt, flop=0.0)
        finally:
            reference.close()
    except (EngineFailedError, MemoryError, RuntimeError) as error:
        if out_of_memory(error):
            raise NoRoomError(
                f"the GPU has no room for the self-check of {fmt} next to the engine "
                f"({free >> 20} MiB free)"
            ) from error
        raise EngineLoadError(
            f"the self-check on {device.name} fails: {first_line(error)}"
        ) from error
    finally:
        device.release()
