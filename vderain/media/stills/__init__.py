"""Image files and folders of images as sources and sinks."""
