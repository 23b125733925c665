"""The web page of live cameras, with metrics and health."""
