"""Verifies that an output holds what its source held: frames, tracks, tags, boxes."""
