"""Scenarios, suites, evaluations and the gate."""
