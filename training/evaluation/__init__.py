"""Scores of derained images and clips, and the report of them."""
