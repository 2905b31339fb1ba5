"""What was made from what, in the words of others: OpenLineage, in-toto with SLSA provenance, CycloneDX."""
