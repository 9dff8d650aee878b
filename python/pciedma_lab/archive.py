"""Where Debian's packages come from: the host's own mirror and proxy."""

from __future__ import annotations

import shutil
import subprocess


def _output(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def mirror() -> str | None:
    """Return the address of the archive that the host's apt uses, or None for mmdebstrap's default."""
    lines = _output(["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)"])
    for line in lines.splitlines():
        uri, _, origin = line.partition(" ")
        if origin.strip() == "Debian Debian":
            return uri
    return None


def proxy_options() -> list[str]:
    """Return the host's apt proxy settings as options for apt, e.g. ``Acquire::http::Proxy "..."``."""
    lines = _output(["apt-config", "dump", "--format", '%F "%v";%n']).splitlines()
    return [line for line in lines if line.startswith("Acquire::http") and "Proxy" in line and '""' not in line]
