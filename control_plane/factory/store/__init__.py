"""Rows of clusters, jobs and what exporters said."""
