"""Inside an H.264 or HEVC stream: its NAL units, and the rate in its header."""
