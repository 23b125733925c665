"""The network as OpenVINO graphs: exported with torch once, read without it ever after."""
