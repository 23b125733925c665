"""Whether an output holds what its source held: frames, tracks, and what else a file holds."""
