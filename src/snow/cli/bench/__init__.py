"""`snow bench`: what this machine makes of it, in figures."""

from snow.cli.bench.app import app
from snow.cli.bench.serving import serving
from snow.cli.bench.training import training

__all__ = ["app", "serving", "training"]
