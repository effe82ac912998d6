"""What experiments write: files with where their figures come from, and tables of them."""
