"""The rain detector: which parts of a clip are derained."""
