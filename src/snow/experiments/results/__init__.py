"""Results files: their provenance, and the tables that are made of them."""
