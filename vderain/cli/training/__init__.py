"""Commands that make weights, and score them."""
