"""What the bytes mean: versions, history, keys, restore, deletion, verify, repair. The only layer that orchestrates."""
