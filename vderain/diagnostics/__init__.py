"""What works on this machine, how fast it is, and how long a run will take."""
