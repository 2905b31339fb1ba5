"""Models, versions, artifacts and releases."""
