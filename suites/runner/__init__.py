"""Drive isolated workers, keep the journal, resume."""
