"""Containers: opening, formats, encoders and the tracks that are copied."""
