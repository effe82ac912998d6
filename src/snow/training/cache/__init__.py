"""Cached features of training pictures."""
