"""The clips of a batch: found, named and sorted."""
