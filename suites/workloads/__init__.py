"""Define the models, the data and the operations that are timed; no timing here."""
