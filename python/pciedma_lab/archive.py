"""Where Debian's packages come from: the host's own mirror, proxy and certificates."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def _output(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def parse_mirror(targets: str) -> str | None:
    """Return the address of Debian's archive in lines of ``REPO_URI ORIGIN LABEL``, or None.

    Where apt has no lists, origin and label are not known: then the address has to look like Debian's.
    """
    for line in targets.splitlines():
        uri, _, origin = line.partition(" ")
        known = origin.strip() == "Debian Debian" or (not origin.strip() and uri.rstrip("/").endswith("/debian"))
        if known and uri.startswith(("http://", "https://")):
            return uri
    return None


def parse_settings(dump: str) -> list[str]:
    """Return what of ``apt-config dump`` is needed to reach the archive, as options for apt.

    That is the proxies, and whether an old index is good enough, for who has a mirror that lags behind.
    """
    lines = (line.strip() for line in dump.splitlines())
    return [line for line in lines if _is_needed(line) and '""' not in line]


def _is_needed(line: str) -> bool:
    return (line.startswith("Acquire::http") and "Proxy" in line) or line.startswith("Acquire::Check-Valid-Until ")


def mirror() -> str | None:
    """Return the address of the archive that the host's apt uses, or None for mmdebstrap's default."""
    listing = ["apt-get", "indextargets", "--format"]
    described = _output([*listing, "$(REPO_URI) $(ORIGIN) $(LABEL)"])
    return parse_mirror(described) or parse_mirror(_output([*listing, "$(REPO_URI)", "--no-release-info"]))


def settings() -> list[str]:
    """Return what the host's apt needs to reach the archive, as options for apt: ``Acquire::http::Proxy "...";``."""
    return parse_settings(_output(["apt-config", "dump", "--format", '%F "%v";%n']))


def certificates() -> Path | None:
    """Return the file of the authorities that the host trusts, or None; a company's proxy may be among them."""
    path = Path(os.environ.get("SSL_CERT_FILE") or _CERTIFICATES)
    return path if path.is_file() else None
