"""Measurements: methods compared, options swept, speed, plans for a load, and the paper's tables and figures."""
