"""Learn dictionaries and encoders: one SparseCoder a file, and what they share."""
