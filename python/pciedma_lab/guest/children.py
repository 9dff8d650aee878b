"""Functions in children of their own, run in the guest."""

from __future__ import annotations

import os
from collections.abc import Callable


def forked(function: Callable[[], object]) -> int:
    """Run a function in a child, which ends with 0 unless it raises; returns the child's process id."""
    child = os.fork()
    if not child:
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return child
