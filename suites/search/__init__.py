"""Find break-evens: fit curves over sparsity, say what is known of them, and choose what to measure next."""
