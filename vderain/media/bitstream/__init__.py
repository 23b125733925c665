"""Inside an H.264 or HEVC stream: its units, and the rate in its header."""
