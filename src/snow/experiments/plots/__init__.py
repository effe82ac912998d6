"""Plots of results files, drawn with matplotlib."""
