"""What the packages leave on a machine, and what their programs do to it."""

from __future__ import annotations

import re

from pciedma_lab import deb_command
from pciedma_lab.chroot import PACKAGE_TESTERS, PROJECT

from .. import driver
from .conftest import LEFT, Distribution, lines

_PACKAGES = "pciedma pciedma-common pciedma-dev pciedma-dkms pciedma-doc pciedma-lab python3-pciedma"
#: With the documentation, which the machine leaves out else; no modules, which take long.
_INSTALL = f"rm -f /etc/dpkg/dpkg.cfg.d/*; touch /etc/dkms/no-autoinstall; install {_PACKAGES}"
_COMPILED = """
from importlib.util import cache_from_source
from pathlib import Path
for package in ("pciedma", "pciedma_lab"):
    files = [*Path("/usr/lib/python3/dist-packages", package).rglob("*.py")]
    print("compiled:", package, bool(files) and all(Path(cache_from_source(str(path))).exists() for path in files))
"""


#: What a package cannot do without; python3's own version is debhelper's to say.
_DEPENDS = {
    "pciedma": {"python3-pciedma", "python3"},
    "pciedma-common": {"systemd", "udev"},  # for systemd-sysusers
    "pciedma-dev": set(),
    "pciedma-dkms": {"dkms", "pciedma-common"},
    "pciedma-doc": {"libjs-sphinxdoc"},
    "pciedma-lab": {"mmdebstrap", "python3-pciedma", "python3"},
    "python3-pciedma": {"python3"},
}


def test_packages_depend_on_what_they_need(debian: Distribution) -> None:
    """The machines of the other tests have it all."""
    index = (deb_command.DIST / debian.suite / "Packages").read_text()
    packages = [dict(re.findall(r"^(\S+): (.*)$", paragraph, re.M)) for paragraph in index.strip().split("\n\n")]
    found = {fields["Package"]: set(re.findall(r"(?:^|, )([a-z0-9.-]+)", fields.get("Depends", "")))
             for fields in packages}
    assert found == _DEPENDS


def test_packages_have_changelog_copyright_and_a_registered_manual(debian: Distribution) -> None:
    (card,) = re.findall(r"`pciedma-doc` has the folder as `(\S+)`", (PROJECT / "docs/add-a-card.md").read_text())
    output = debian.run(f"""
        {_INSTALL} > /root/installed; for package in {_PACKAGES}; do
            for file in copyright changelog.Debian.gz; do try test -s /usr/share/doc/$package/$file; done
        done
        sed -n 's/^Index: //p' /usr/share/doc-base/*pciedma* | while read index; do try test -s $index; done
        cd /usr/share/man; try ls man1/pciedma.1.gz man1/pciedma-lab.1.gz man4/pciedma.4.gz
        try test -x {card}/debian/rules -a -s {card}/loop.py
        purge {_PACKAGES}; {LEFT}
    """, PACKAGE_TESTERS)
    assert lines(output, "< ") == ["< 0"] * (2 * len(_PACKAGES.split()) + 4)
    assert lines(output, "/") == []


def test_programs_are_compiled_and_write_nothing_below_usr(debian: Distribution) -> None:
    output = debian.run(f"""
        {_INSTALL} > /root/installed; python3 -c '{_COMPILED}'
        unset PYTHONDONTWRITEBYTECODE; export XDG_CACHE_HOME=/root/cache; touch /root/stamp; sleep 0.1; cd /root
        pciedma list; pciedma doctor; pciedma-lab --help; pciedma-lab lint; echo "< $?"
        python3 -c 'from pciedma_lab import machine, project; project.provide()'
        find /usr /etc -xdev -newer /root/stamp -type f | sed 's/^/written: /'
        find /root/cache -name guest_agent.py | sed 's/^/cached: /'
    """, PACKAGE_TESTERS)
    assert lines(output, "compiled: ") == ["compiled: pciedma True", "compiled: pciedma_lab True"]
    assert "pciedma_lab: lint needs a clone of the project; this lab is installed" in output
    assert lines(output, "written: ") == []
    assert re.search(r"^cached: /root/cache/pciedma/lab-\S+/python/pciedma_lab/guest_agent.py$", output, re.M)


def test_lab_builds_the_modules_from_the_source_in_its_package(debian: Distribution) -> None:
    output = debian.run(f"""
        {_INSTALL} > /root/installed; cd /root
        # where it lies tells one lab's folder in the cache from another's: this one is nobody else's
        export PYTHONPATH=$(mktemp -d /root/own.XXXXXXXX); cp -r /usr/lib/python3/dist-packages/pciedma* $PYTHONPATH
        try pciedma-lab modules --kernel trixie > /root/said; cat /root/said
        folder=$(sed -n 's|/build/.*||p' /root/said); ls $folder/build/trixie/modules; rm -rf $folder
    """, PACKAGE_TESTERS)
    assert lines(output, "< ") == ["< 0"], output
    assert lines(output, "pciedma") == [f"{name}.ko" for name in driver.modules()]


def test_modules_are_not_built_where_dkms_is_told_not_to(debian: Distribution) -> None:
    output = debian.run("""
        touch /etc/dkms/no-autoinstall; install pciedma-dkms; dkms status; find /lib/modules -name 'pciedma*'
    """)
    assert lines(output, "< ") == ["< 0"]
    assert lines(output, "pciedma: ") == ["pciedma: no modules are built, since there is /etc/dkms/no-autoinstall"]
    assert len(lines(output, "pciedma/")) == 1
    assert lines(output, "/lib") == []
