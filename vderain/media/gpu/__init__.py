"""Video that is decoded and encoded on an NVIDIA GPU."""
