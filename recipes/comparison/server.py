"""What the server of processes imports before it forks them: quietly, and undisturbed.

Ctrl-C reaches it, too; it is for the sweep, which ends its processes itself.
"""

import signal

from recipes.run.quiet import fast_and_quiet

signal.signal(signal.SIGINT, signal.SIG_IGN)
with fast_and_quiet():
    import recipes.comparison.processes  # noqa: F401
