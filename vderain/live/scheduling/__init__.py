"""Where live frames wait, which is derained next, and on how large a network."""
