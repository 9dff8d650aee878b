"""Listening UNIX sockets that appear under their name only when a connection to them will be accepted."""

from __future__ import annotations

import socket
from pathlib import Path


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at *path*; a socket that an ended process left there is replaced."""
    hidden = path.with_name(path.name + ".new")
    hidden.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(hidden))
        listener.listen(8)
        hidden.rename(path)
    except BaseException:
        listener.close()
        raise
    return listener
