"""What training minimises: the supervised pair, and the contrastive terms that need no ground truth."""
