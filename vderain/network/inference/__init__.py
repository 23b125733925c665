"""A trained network made ready for engines: folded, quantised, in stripes, between planes."""
