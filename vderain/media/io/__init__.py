"""Containers: opening, formats, encoders, the index of a video, and properties of inputs."""
