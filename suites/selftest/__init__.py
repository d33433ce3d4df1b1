"""Try on this machine how often two measurements of one thing are told apart, and how often two things are."""
