"""The networks and what surrounds them: plain torch modules, no I/O. Import the submodules; this one is empty."""
