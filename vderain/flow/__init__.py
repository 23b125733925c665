"""How stages of a run overlap: threads between them, and planes that are not computed yet."""
