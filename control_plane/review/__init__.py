"""Questions put to people, with their evidence, and the answers."""
