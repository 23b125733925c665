"""How a change is added to the planes of a frame: rounded, within the range of samples, never darker than the floor."""
