"""Training runs that were asked for, and what came of them."""
