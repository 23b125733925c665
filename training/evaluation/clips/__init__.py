"""Scores of clips as a whole: real rain of static cameras, and dry clips in which things move."""
