"""``python -m vderain``."""

from vderain.cli import main

main()
