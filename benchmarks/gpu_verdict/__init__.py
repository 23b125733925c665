"""The parts of ``benchmarks/gpu.py``: commands, tests, rates, the time of kernels, and the report."""
