"""Hold what the kernels of every folder need alike."""
