"""Benchmarks of this machine: speed and memory of training and of serving, and where the time goes."""
