"""Training programs, and tools for their runs: ``python -m recipes --help``."""
