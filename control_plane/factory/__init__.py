"""Clusters, jobs, and the ledger of what they cost."""
