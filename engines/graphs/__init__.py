"""The network as OpenVINO graphs: exported once with torch, read without it."""
