"""Video in segments: cut, assembled and joined without encoding again."""
