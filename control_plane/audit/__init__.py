"""Append-only and hash-chained: who did what, and every `because`."""
