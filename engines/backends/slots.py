"""Several frames in flight on a device: the scheduler of every engine that computes while the caller goes on.

It does not depend on CUDA or OpenVINO, which only slots use. A device that reorders, delays or fails is noticed
when a slot is waited for.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from vderain.engines.engine import added, check_clip
from vderain.errors import EngineFailedError, EngineLoadError
from vderain.flow.future import Future
from vderain.frames import Clip, Plane, PlaneFormat
from vderain.interfaces import EngineSpec


class Slot(Protocol):
    """One frame in flight: its input and output buffers, its execution context, its queue.

    Called in the order upload, launch, download, wait, by one thread at a time. Only ``wait`` waits. Where the
    device fails, the call that notices it first raises RuntimeError or MemoryError.
    """

    def upload(self, clip: Clip) -> None:
        """Copy the network's input planes, and queue their upload."""

    def launch(self) -> None:
        """Queue the network behind the upload."""

    def download(self) -> None:
        """Queue the download of the change, and the event that ``wait`` waits for."""

    def wait(self) -> Sequence[Plane]:
        """The change once it has arrived: (H, W) float32 arrays that belong to the caller.

        Or the derained frame, where the slot computed that.
        """

    def close(self) -> None:
        """Release everything; called when nothing is in flight."""


_Slot = TypeVar("_Slot", bound=Slot)


class SlotEngine(Generic[_Slot]):
    """``Engine`` for one plane format over slots that take turns.

    Results come in the order of submission, whatever the order in which the device completes them. With all
    slots in use, ``submit`` waits for the oldest clip, whose result stays available. Once the device has
    failed, every clip without a result raises EngineFailedError.
    """

    def __init__(self, slots: Sequence[_Slot], fmt: PlaneFormat, spec: EngineSpec) -> None:
        self.slots = len(slots)
        self.window = spec.window
        self.aligns = False
        self._slots = list(slots)
        self._fmt = fmt
        self._spec = spec
        self._futures: list[Future | None] = [None] * len(slots)
        self._turn = 0
        self._closed = False
        self._lock = threading.Lock()

    def open(self, fmt: PlaneFormat) -> EngineSpec:
        """As the protocol says; it is open already."""
        return self._spec

    def submit(self, clip: Clip, *, strength: float = 1.0, on_device: bool = False) -> Future:
        """As the protocol says; the change is added on the host."""
        return added(self.change(clip), clip, strength)

    def change(self, clip: Clip) -> Future:
        """Submit a clip; its samples are copied before this returns."""
        check_clip(clip, self._fmt, self.window, aligns=self.aligns)
        return self._begun(functools.partial(_through, clip=clip))

    def _begun(self, queue: Callable[[_Slot], None]) -> Future:
        """The future of the next slot, whose work ``queue`` queues."""
        with self._lock:
            if self._closed:
                raise EngineLoadError("the engine is closed")
            slot, previous = self._slots[self._turn], self._futures[self._turn]
            if previous is not None:
                previous.settle()
            try:
                queue(slot)
            except (RuntimeError, MemoryError) as error:
                raise _failure(self._spec, error) from error
            future = Future(functools.partial(_result, slot, self._spec))
            self._futures[self._turn] = future
            self._turn = (self._turn + 1) % self.slots
            return future

    def close(self) -> None:
        """Release the device; the results of clips in flight are fetched first and stay available."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for future in self._futures:
                if future is not None:
                    future.settle()
            self._futures.clear()
            for slot in self._slots:
                with contextlib.suppress(RuntimeError):  # a failed device fails again
                    slot.close()
            self._slots.clear()


def _through(slot: Slot, clip: Clip) -> None:
    slot.upload(clip)
    slot.launch()
    slot.download()


def _result(slot: Slot, spec: EngineSpec) -> Sequence[Plane]:
    """The result of a slot, copied, so that the slot is free for the next clip."""
    try:
        return slot.wait()
    except (RuntimeError, MemoryError) as error:
        raise _failure(spec, error) from error


def fill_padded(padded: Plane, plane: Plane) -> None:
    """Copy a plane into a buffer of at least its size, repeating its last row and column."""
    height, width = plane.shape
    padded[:height, :width] = plane
    padded[:height, width:] = plane[:, -1:]
    padded[height:] = padded[height - 1]


def first_line(error: BaseException) -> str:
    """The first line of a message that says something; not the place in a library's source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = (line for line in lines if not line.startswith("Exception from"))
    return next(named, type(error).__name__)


def _failure(spec: EngineSpec, error: Exception) -> EngineFailedError:
    return EngineFailedError(f"{spec.name} on {spec.device} failed: {first_line(error)}")
