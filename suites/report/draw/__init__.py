"""Draw small plots as light SVGs in the page's own letters and colours."""
