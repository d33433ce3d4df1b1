"""Learn sparse codes of digits."""
