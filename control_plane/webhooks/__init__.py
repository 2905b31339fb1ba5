"""Tells other systems what happened: signed, retried, bounded, and never towards the inside of a network."""
