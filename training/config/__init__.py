"""Settings of the training methods: defaults, bounds, TOML files and overrides."""
