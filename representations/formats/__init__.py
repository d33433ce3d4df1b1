"""Hold one representation a file."""
