"""What runs a network: OpenVINO, TensorRT, CUDA and the torch reference."""
