"""The rain detector: decides which parts of a clip are derained."""
