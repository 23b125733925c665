"""Many files at once, and only the part of them that it rained on."""
