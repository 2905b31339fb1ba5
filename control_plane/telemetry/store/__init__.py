"""Telemetry in and out of the database."""
