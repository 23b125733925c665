"""What an output keeps of its source besides the frames: tracks, tags, boxes, messages in the video."""
