"""Cameras in and live outputs out."""
