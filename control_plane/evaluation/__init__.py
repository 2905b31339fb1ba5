"""Suites, evaluations and the gate."""
