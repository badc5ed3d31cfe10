"""The version, in one place: checkpoints and evaluations record it."""

__version__ = "0.1.0"
