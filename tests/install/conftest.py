"""The packages as `make deb` left them, and machines to install them on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from pciedma_lab import cache, deb_command
from pciedma_lab.chroot import INSTALLED, PROJECT, Chroot

#: What all scripts begin with: apt, and nothing else but the packages of this project and what the machine has.
_HEAD = """
set -u
unset PYTHONPATH
export LC_ALL=C.UTF-8 DPKG_FORCE=unsafe-io
echo 'deb [trusted=yes] file:{dist} ./' > /etc/apt/sources.list
apt-get -qq update
kernel=$(basename /lib/modules/*)
try() {{ echo "> $*"; "$@"; echo "< $?"; }}
install() {{ try apt-get -y -q --no-install-recommends install "$@"; }}
purge() {{ try apt-get -y -q purge "$@"; }}
state() {{ echo "state: $(dpkg-query -W -f '${{db:Status-Abbrev}}' "$1")"; }}
break_headers() {{
    header=$(echo /usr/src/linux-headers-*-common/include/linux/eventfd.h)
    cp $header /root/header; echo '#error broken on purpose' >> $header
}}
mend_headers() {{ cp /root/header $header; }}
"""


_HOSTS = (PROJECT, cache.root())
_OTHERS = " -o ".join(
    f"-path {shlex.quote(str(path))}" for path in ("/proc", "/sys", "/tmp", "/var/lib/apt", "/mnt", *_HOSTS)
)
_ABOVE = " ".join(f"! -path {shlex.quote(str(parent))}" for path in _HOSTS for parent in path.parents)
#: What has the project's name in the file system, but for the repository and the lab's own.
LEFT = rf"find / -xdev \( {_OTHERS} \) -prune -o -name '*pciedma*' {_ABOVE} -print"


@dataclass(frozen=True)
class Distribution:
    """A freshly installed Debian, of which each script gets a copy of its own."""

    suite: str

    def run(self, script: str, machines: Mapping[str, Chroot] = INSTALLED) -> str:
        """Run a script and return what it printed; fails if bash did not reach its end."""
        head = _HEAD.format(dist=deb_command.DIST / self.suite)
        result = machines[self.suite].run_scratch(f"{head}\n{script}\necho the end\n")
        assert result.stdout.endswith("the end\n"), result.stdout
        return result.stdout


@pytest.fixture(scope="session", autouse=True)
def undisturbed() -> Iterator[None]:
    """The packages, and the machines' folders, for these tests alone."""
    with deb_command.undisturbed():
        yield


@pytest.fixture(params=sorted(deb_command.RELEASES))
def debian(request: pytest.FixtureRequest) -> Distribution:
    """Debian 12, then 13."""
    suite: str = request.param
    if not (deb_command.DIST / suite / "Packages").exists():
        pytest.fail("build the packages first: make deb")
    return Distribution(suite)


def lines(output: str, beginning: str) -> list[str]:
    """Return the lines of an output that begin with a text."""
    return [line for line in output.splitlines() if line.startswith(beginning)]


