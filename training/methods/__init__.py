"""The training methods: what each of them minimises in a step."""
