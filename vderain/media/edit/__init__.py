"""Video in segments: cut, assembled, verified and joined without encoding again."""
