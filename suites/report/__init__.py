"""Turn a journal into tables, plots and one HTML file."""
