"""Pure decisions of the flows: what to select, how to split, which shards are left."""
