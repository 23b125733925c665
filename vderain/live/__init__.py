"""Live cameras: sessions that survive failures, bounded latency, statistics and the web page."""
