"""MP4 and MOV files as boxes: what FFmpeg does not read of them, and does not write."""
