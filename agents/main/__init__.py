"""The agent put together: `python -m agents.main --help`. Nothing imports this package."""
