"""What this machine's arithmetic reaches at best: a large matrix product, measured."""

from __future__ import annotations

import time

_SIDE = {"cpu": 2048, "cuda": 8192}
_SECONDS = 1.0


def matrix_peak_flop_per_s(engine: str, precision: str) -> tuple[float, str]:
    """Floating point operations per second of a matrix product where ``engine`` computes, and its precision.

    Of the engine's own precision where torch has such a product there; of float32 for int8 on a CPU, whose
    share may therefore exceed 100 %.
    """
    import torch

    dtypes = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    on_gpu = engine in ("tensorrt", "cuda")
    if not on_gpu and precision == "float16":
        precision = "float32"
    dtype = dtypes.get(precision, torch.float32)
    device = "cuda" if on_gpu else "cpu"
    side = _SIDE[device]
    left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))

    def finished() -> float:
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    torch.mm(left, right)  # the first one also allocates
    done, since = 0, finished()
    while finished() - since < _SECONDS:
        torch.mm(left, right)
        done += 1
    rate = done * 2.0 * side**3 / (finished() - since)
    return rate, str(dtype).removeprefix("torch.")
