"""Whether an output holds what its source held: frames, tracks, and what a file tells besides."""
