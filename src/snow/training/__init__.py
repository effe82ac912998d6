"""Training: a job (what to learn, how, and where) and the trainer that runs it for every method."""

from snow.training.job import RunPaths, TrainingJob
from snow.training.recipe import Recipe
from snow.training.runtime import Runtime

__all__ = ["Recipe", "RunPaths", "Runtime", "TrainingJob"]
