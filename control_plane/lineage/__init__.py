"""What was made from what: edges between things, walked in both directions."""
