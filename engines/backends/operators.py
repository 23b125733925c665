"""Where the time of a graph goes, by kind of operator, from OpenVINO's performance counters."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

_LEAST_FRAMES = 3


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """What all operators of one kind take.

    Attributes:
        kind: OpenVINO's name; ``(slow)`` marks its plain kernels, which no processor's instructions are used for.
        ms: milliseconds per frame.
        share: of all operators.

    """

    kind: str
    ms: float
    share: float

    @property
    def is_convolution(self) -> bool:
        """Whether this is what networks are made of, not what stands between."""
        return "Convolution" in self.kind or self.kind.startswith("Deconvolution")


def operator_times(
    infer: Callable[[], object], counters: Callable[[], Iterable[Any]], seconds: float
) -> list[OperatorTime]:
    """Infer frames for ``seconds`` and add up the counters, the longest kind first.

    The first frame, which also allocates, is left out.
    """
    infer()
    spent_us: Counter[str] = Counter()
    frames, since_s = 0, time.monotonic()
    while frames < _LEAST_FRAMES or time.monotonic() - since_s < seconds:
        infer()
        frames += 1
        for one in counters():
            if one.status.name == "EXECUTED":
                spent_us[_kind(one)] += one.real_time.total_seconds() * 1e6
    total_us = max(sum(spent_us.values()), 1e-9)
    return [
        OperatorTime(kind, us / 1000 / frames, us / total_us) for kind, us in spent_us.most_common()
    ]


def _kind(counter: Any) -> str:
    return (
        f"{counter.node_type} (slow)" if counter.exec_type.startswith("ref") else counter.node_type
    )
