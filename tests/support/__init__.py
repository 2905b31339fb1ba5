"""Makers shared by tests; not tests."""
