"""Commands for live cameras."""
