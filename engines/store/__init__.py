"""Built engines on disk, with the key and the self-check that vouch for them."""
