"""Rules of the house as code."""
