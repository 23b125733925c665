"""The CUDA engine: the folded network in half precision on torch's own kernels, captured in CUDA graphs.

Used where TensorRT is missing, and while its engine is built. Not yet run on a GPU.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vderain.engines.backends.device import CudaDevice, Device
from vderain.engines.backends.gpu_slot import GpuSlot, Ports, Step
from vderain.engines.backends.nvidia import (
    DTYPES,
    SLOTS,
    SPARE,
    GpuEngine,
    check_on_device,
    make_slots,
    out_of_memory,
    wanted_precisions,
)
from vderain.engines.backends.reference import load_finite_network
from vderain.engines.backends.slots import first_line
from vderain.engines.engine import spec_from_card
from vderain.engines.store.cache import Built, EngineCache
from vderain.engines.store.key import EngineKey, package_versions
from vderain.engines.store.opening import first_passing
from vderain.engines.store.selfcheck import CheckResult
from vderain.errors import EngineLoadError, NoRoomError
from vderain.frames import PlaneFormat
from vderain.network.card import Card
from vderain.network.inference.allocated import peak_bytes, stripe_rows
from vderain.network.inference.graph import device_graph
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.options import EngineOptions


class CudaBackend:
    """Torch on one NVIDIA GPU; EngineLoadError where torch can use none."""

    def __init__(
        self,
        weights: Path,
        card: Card,
        options: EngineOptions,
        cache: EngineCache,
        *,
        device: Device | None = None,
    ) -> None:
        self._device: Device = device or CudaDevice(options.device)
        self._card = card
        self._cache = cache
        self._compiled = options.compiled
        self._wanted = options.slots or SLOTS
        self._precisions = wanted_precisions("cuda", options)
        self._network = load_finite_network(weights, card)

    def open(self, fmt: PlaneFormat) -> GpuEngine:
        """An engine for clips of one format, in the first precision that passes the self-check."""
        with self._device.current():
            return first_passing("cuda", fmt, self._precisions, self._load)

    def _load(
        self, fmt: PlaneFormat, precision: str, notes: list[str]
    ) -> tuple[GpuEngine, CheckResult]:
        before = len(notes)
        try:
            return self._checked(fmt, precision, notes, self._wanted)
        except NoRoomError:
            if self._wanted == 1:
                raise
        # The memory may be too small for the self-check next to all slots; its result holds for any number of slots.
        del notes[before:]
        alone, check = self._checked(fmt, precision, notes, 1)
        alone.close()
        return self._engine(fmt, precision, notes, self._wanted), check

    def _checked(
        self, fmt: PlaneFormat, precision: str, notes: list[str], wanted: int
    ) -> tuple[GpuEngine, CheckResult]:
        engine = self._engine(fmt, precision, notes, wanted)
        check = functools.partial(self._check, engine, fmt)
        try:
            verdict = self._cache.fetch(self._key(fmt, precision), check, notes)
        except BaseException:
            engine.close()
            raise
        return engine, CheckResult(**verdict.check)

    def _key(self, fmt: PlaneFormat, precision: str) -> EngineKey:
        """The key of the self-check's result; there is no binary."""
        return EngineKey(
            engine="cuda, compiled" if self._compiled else "cuda",
            precision=precision,
            device=self._device.name,
            features=self._device.features,
            weights=self._card.sha256,
            config=self._card.config,
            format=fmt,
            versions=package_versions("vderain", "torch"),
        )

    def _check(self, engine: GpuEngine, fmt: PlaneFormat) -> Built:
        return Built(
            b"", check_on_device(engine, self._network, fmt, self._card, self._device).to_dict()
        )

    def _engine(self, fmt: PlaneFormat, precision: str, notes: list[str], wanted: int) -> GpuEngine:
        try:
            slots = self._slots(fmt, precision, notes, wanted)
        except (RuntimeError, MemoryError) as error:
            kind = NoRoomError if out_of_memory(error) else EngineLoadError
            raise kind(f"cuda cannot run {fmt}: {first_line(error)}") from error
        spec = spec_from_card(
            self._card, "cuda", precision, self._device.name, tuple(dict.fromkeys(notes))
        )
        return GpuEngine(slots, fmt, spec)

    def _slots(
        self, fmt: PlaneFormat, precision: str, notes: list[str], wanted: int
    ) -> list[GpuSlot]:
        """Slots for whole frames, or one slot that computes a frame in stripes."""
        dtype = DTYPES[precision]
        padded = fmt.padded(self._card.config.multiple)
        ports = Ports.of(self._card.config, fmt, precision)
        try:
            steps = self._maker(device_graph(self._network, padded, dtype))
            return make_slots(self._device, ports, steps, wanted=wanted, notes=notes)
        except MemoryError:
            free = int(SPARE * self._device.free_bytes())
            rows = self._stripe_rows(padded, ports, dtype, free)
            if not rows:
                raise
        notes.append(
            f"the GPU has {free >> 20} MiB free: a frame is computed in stripes of {rows} rows"
        )
        steps = self._maker(device_graph(self._network, padded, dtype, rows=rows))
        return make_slots(self._device, ports, steps, wanted=1, notes=notes)

    def _stripe_rows(self, padded: PlaneFormat, ports: Ports, dtype: torch.dtype, free: int) -> int:
        """Rows of features of a stripe for which ``free`` bytes suffice; 0 where none do."""
        if not isinstance(self._network, SemiDRDNet):
            return 0

        def peak(rows: int) -> int:
            graph = device_graph(self._network, padded, dtype, rows=rows)
            return peak_bytes(graph, ports.planes, ports.taken)

        return stripe_rows(peak, padded.height // self._network.config.unshuffle, free)

    def _maker(self, graph: nn.Module) -> Any:
        """A function that makes a slot's step of a graph, which all slots share."""
        graph.to(self._device.torch_device)
        module: Any = graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # undeclared in torch
        if self._compiled:
            module = torch.compile(module, mode="max-autotune-no-cudagraphs", dynamic=False)

        def make_step(taken: list[Tensor], given: list[Tensor], stream: Any) -> Step:
            @torch.inference_mode()
            def step() -> None:
                with _searched_and_exact():
                    outputs = module(*taken)
                for target, change in zip(given, outputs, strict=True):
                    target.copy_(change)

            return step

        return make_step


def _searched_and_exact() -> AbstractContextManager[Any]:
    """Let cuDNN measure its kernels in the warm-up, and keep float32 from being rounded to TF32."""
    return torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=True, deterministic=False, allow_tf32=False
    )
