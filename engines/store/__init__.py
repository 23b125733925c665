"""Built engines on disk, with their key and their self-check."""
