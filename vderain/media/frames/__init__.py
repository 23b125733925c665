"""Decoded frames: decoding, planes, colour and timestamps."""
