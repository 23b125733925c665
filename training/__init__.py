"""Makes the weights: vderain.training."""

if (
    __name__ != "vderain.training"
):  # the same file imported twice under two names would give two of every class
    raise ImportError("import this package as vderain.training (pip install -e .)")
