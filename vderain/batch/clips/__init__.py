"""The clips of a batch: found, named and put in order."""
