"""What can be done to a store: one verb a module, functions over an opened store."""
