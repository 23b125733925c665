"""Rain rendered onto clean images, and streaks taken from real footage."""
