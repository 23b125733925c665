"""Rain rendered onto clean images, and streaks from real footage."""
