"""Ship the kept studies of quality with the package, and check that they hold here."""
