"""Overlap of a run's stages: threads between them, and futures of planes."""
