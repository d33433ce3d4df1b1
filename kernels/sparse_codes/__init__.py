"""Select the largest entries of each row, and multiply codes of so many entries a row with a dictionary, and back."""
