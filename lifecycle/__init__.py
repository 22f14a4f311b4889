"""The core: what a job's life is, and the one place that decides it. Knows no vendor and no clock."""

__version__ = "0.1.0"
