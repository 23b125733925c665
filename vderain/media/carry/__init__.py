"""What an output carries of its source beside the frames: tracks, tags, boxes, messages in the video."""
