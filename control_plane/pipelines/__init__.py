"""Requests to go round the loop, what asked for them, and what came of them."""
