"""How much memory a graph allocates while it computes: counted over a run on the meta device, which computes nothing.

It excludes what a library allocates besides its results, as cuDNN does for some convolutions.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

_META = torch.device("meta")
# Per frame; more of them save little, and counting takes longer the more there are.
_STRIPES = (2, 4, 8, 16)


def peak_bytes(graph: nn.Module, planes: Sequence[tuple[int, int]], dtype: torch.dtype) -> int:
    """The most that a graph has allocated at once, its weights and inputs aside.

    Args:
        graph: between planes; it stays as it is.
        planes: (H, W) of its inputs.
        dtype: of the inputs.

    """
    there = copy.deepcopy(graph).to(_META)
    inputs = [torch.empty((1, 1, *shape), dtype=dtype, device=_META) for shape in planes]
    alive = _Alive([*inputs, *there.parameters(), *there.buffers()])
    with torch.inference_mode(), alive:
        there(*inputs)
    return alive.peak


def stripe_rows(peak_bytes_of: Callable[[int], int], rows: int, free_bytes: int) -> int:
    """Rows of the largest stripe, a half to a sixteenth of ``rows``, whose peak fits; 0 where none does."""
    for count in _STRIPES:
        stripe = -(-rows // count)
        if peak_bytes_of(stripe) <= free_bytes:
            return stripe
    return 0


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]  # undeclared in torch
    """Bytes of the tensors that were made meanwhile and are alive, and the most that were so at once."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # undeclared in torch
        self.bytes = self.peak = 0
        self._known = WeakIdKeyDictionary()  # of storages, which views share
        for tensor in known:
            self._known[tensor.untyped_storage()] = None

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known[storage] = None
        self.bytes += storage.nbytes()
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._freed, storage.nbytes())

    def _freed(self, size: int) -> None:
        self.bytes -= size
