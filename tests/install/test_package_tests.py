"""The packages' own tests (debian/tests, and Debian's for DKMS), by Debian's runner as its archive runs them."""

from __future__ import annotations

import re

import pytest

from pciedma_lab import deb_command
from pciedma_lab.chroot import PACKAGE_TESTERS

from .conftest import lines

#: Nothing but the packages of this project, with their documentation. What a test breaks, nobody uses afterwards.
_SCRIPT = """
set -u
unset PYTHONPATH
export LC_ALL=C.UTF-8 DPKG_FORCE=unsafe-io
rm -f /etc/dpkg/dpkg.cfg.d/* /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:{dist} ./' > /etc/apt/sources.list
apt-get -qq update
autopkgtest --no-built-binaries --ignore-restrictions=breaks-testbed {dist}/*.deb {dist}/*.dsc -- null
echo "< $?"
"""


@pytest.mark.parametrize("suite", sorted(deb_command.RELEASES))
def test_package_tests_pass(suite: str) -> None:
    if not (deb_command.DIST / suite / "Packages").exists():
        pytest.fail("build the packages first: make deb")
    output = PACKAGE_TESTERS[suite].run_scratch(_SCRIPT.format(dist=deb_command.DIST / suite)).stdout
    results = dict(re.findall(r"^(\S+) +(PASS|FAIL|SKIP|FLAKY)\b", output.partition("@@ summary")[2], re.M))
    assert results == {"smoke": "PASS", "dkms-autopkgtest": "PASS"}, output
    # 2: some tests were skipped, 4: some failed, 8: there are none
    assert lines(output, "< ") == ["< 0"], output
    assert re.search(r"^I: PASS .*amd64$", output, re.M), output
