"""Live cameras: sessions that survive, bounded latency, telemetry and the web page."""
