"""Safe steps on the local file system, for whatever lies in files: the store's directory, bundles, key files, last seen."""
