"""What the server of processes imports before it forks them, quietly."""

from recipes.run.quiet import fast_and_quiet

with fast_and_quiet():
    import recipes.comparison.processes  # noqa: F401
