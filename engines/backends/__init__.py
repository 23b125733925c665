"""Engines by what computes: OpenVINO, TensorRT, CUDA, the torch reference."""
