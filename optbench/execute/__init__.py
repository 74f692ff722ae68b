"""Programs to the store: what is stored is skipped, the rest runs in worker processes."""
