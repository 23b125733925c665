"""Scheduling of live frames: where they wait, which one is next, and which tier it gets."""
