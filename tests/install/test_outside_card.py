"""A back end of others as a package of its own: made and installed as the page says, upgraded, broken, and removed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pciedma import __version__
from pciedma_lab import chroot, deb_command
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.chroot import PROJECT
from pciedma_lab.installed import fresh

from .. import driver
from . import systems
from .conftest import LEFT, Distribution, lines
from .seat import BUILD_SECONDS, Seat
from .systems import System

_PAGE = (PROJECT / "docs/add-a-card.md").read_text()
_SECTION = _PAGE.partition("## A card of your own, outside this tree\n")[2].partition("\n## ")[0]
#: Its commands: one who makes the package, one who has the card.
_MAKE, _INSTALL = (block.replace("\n    ", "\n").strip() for block in re.findall(r"^\n((?: {4}.*\n)+)", _SECTION, re.M))
_PACKAGE = "pciedma-loop-dkms"
_MODULES = sorted([*driver.modules(), "pciedma_loop"])
#: The next version that the package says that it fits.
_NEXT_VERSION = f"{__version__.rpartition('.')[0]}.99"

_BUILT = re.compile(r"^pciedma: (the modules|pciedma-loop 1\.0) for kernel \S+: built and installed\r?$", re.M)
_BOTH = ["the modules", "pciedma-loop 1.0"]
_FIND = "find /lib/modules -name 'pciedma*.ko*'"
#: The driver's modules are built again, the back end's are as they were.
_BUILD_ANEW = "rm /lib/modules/$kernel/updates/dkms/pciedma.ko*; try /usr/lib/pciedma/build-for $kernel"
#: The symbols of ours by which the back end is bound, each with its version; none is left out of the driver's.
_VERSIONS = """
    modprobe --dump-modversions $(modinfo -k $kernel -n pciedma_loop) | tr '\\t' ' ' | grep pciedma | sort > /root/bound
    cut -f 1,2 /var/lib/dkms/pciedma/kernel-$kernel-x86_64/module/Module.symvers | tr '\\t' ' ' | sort > /root/symbols
    echo bound: $(wc -l < /root/bound); comm -23 /root/bound /root/symbols | sed 's/^/of another driver: /'"""


def _modules(output: str) -> list[str]:
    return sorted(set(re.findall(r"/updates/dkms/(pciedma\w*)\.ko", output)))


def _make(suite: str) -> Path:
    """Make the package in a machine that has what its author is told to install, but not the driver."""
    folder = systems.new_folder(suite, "outside-package")
    needed, *commands = _MAKE.splitlines()
    packages = needed.removeprefix("sudo apt install ")
    assert packages != needed
    script = "\n".join([
        "set -e; exec 2>&1; cd /root",
        f"dpkg -s {packages} > /dev/null; cp -r {PROJECT}/examples/card mycard",
        *commands,
        f"cp {_PACKAGE}_*.deb {folder}/",
    ])
    result = chroot.PACKAGERS[suite].run_scratch(script)
    assert result.returncode == 0, result.stdout
    (package,) = folder.iterdir()
    assert f"sudo apt install ./{package.name}" in _INSTALL.splitlines()
    return package


@pytest.fixture(scope="module")
def packages() -> dict[str, Path]:
    """The package for each distribution."""
    return {suite: _make(suite) for suite in deb_command.RELEASES}


@pytest.fixture
def package(packages: dict[str, Path], debian: Distribution) -> Path:
    return packages[debian.suite]


def test_install_builds_it_behind_the_driver_and_removing_the_driver_removes_both(
    debian: Distribution, package: Path
) -> None:
    output = debian.run(f"""
        install {package}; {_FIND}; {_VERSIONS}; echo ==
        try dpkg --remove pciedma-dkms 2>&1; {_FIND}; echo ==
        purge pciedma-dkms pciedma-common; {LEFT}
    """)
    installed, refused, removed = output.split("==\n")
    assert lines(installed, "< ") == ["< 0"]
    assert _BUILT.findall(installed) == _BOTH
    assert _modules(installed) == _MODULES
    assert int(lines(installed, "bound: ")[0].split()[1]) > 5
    assert lines(installed, "of another driver: ") == []
    assert lines(refused, "< ") == ["< 1"]
    assert f"{_PACKAGE} depends on pciedma-dkms" in refused
    assert _modules(refused) == _MODULES
    assert lines(removed, "< ") == ["< 0"]
    assert f"Removing {_PACKAGE}" in removed
    assert lines(removed, "/") == []


def test_upgrade_of_the_driver_builds_it_anew(debian: Distribution, package: Path) -> None:
    repository = deb_command.make_version(debian.suite, _NEXT_VERSION)
    output = debian.run(f"""
        install {package} > /dev/null; touch /root/before; sleep 1
        echo 'deb [trusted=yes] file:{repository} ./' > /etc/apt/sources.list; apt-get -qq update
        try apt-get -y -q upgrade; {_FIND} -newer /root/before; echo version $(modinfo -k $kernel -F version pciedma)
        {_VERSIONS}; echo ==; try /usr/lib/pciedma/build-for
    """)
    upgraded, again = output.split("==\n")
    assert lines(upgraded, "< ") == lines(again, "< ") == ["< 0"]
    assert _BUILT.findall(upgraded) == _BOTH
    assert _modules(upgraded) == _MODULES
    assert lines(upgraded, "version ") == [f"version {_NEXT_VERSION}"]
    assert lines(upgraded, "of another driver: ") == []
    assert lines(again, "pciedma: ") == []


def test_driver_with_other_symbols_has_it_built_anew(debian: Distribution, package: Path) -> None:
    output = debian.run(f"""
        install {package} > /dev/null
        sed -i 's/^\\tu32 contract;/&\\n\\tu32 more;/' /usr/src/pciedma-{__version__}/include/pciedma_card.h
        cp $(modinfo -k $kernel -n pciedma_loop) /root/; {_BUILD_ANEW}; {_VERSIONS}; echo ==
        cp /root/pciedma_loop.ko* /lib/modules/$kernel/updates/dkms/; {_VERSIONS}
    """)
    built, old = output.split("==\n")
    assert lines(built, "< ") == ["< 0"]
    assert _BUILT.findall(built) == _BOTH
    assert lines(built, "of another driver: ") == []
    assert any("pciedma_driver_register" in line for line in lines(old, "of another driver: "))


def test_build_that_fails_warns_removes_what_does_not_fit_and_goes_on_as_it_says(
    debian: Distribution, package: Path
) -> None:
    output = debian.run(f"""
        install {package} > /dev/null; cp /usr/src/pciedma-loop-1.0/loop.c /root/
        echo '#error broken on purpose' >> /usr/src/pciedma-loop-1.0/loop.c
        {_BUILD_ANEW} > /root/said 2>&1; cat /root/said; {_FIND}; echo ==
        cp /root/loop.c /usr/src/pciedma-loop-1.0/; try $(sed -n 's/.*When the cause is gone: sudo //p' /root/said)
        {_FIND}; echo ==; purge {_PACKAGE} pciedma-dkms pciedma-common; {LEFT}
    """)
    failed, mended, purged = output.split("==\n")
    assert lines(failed, "< ") == lines(mended, "< ") == lines(purged, "< ") == ["< 0"]
    assert re.search(r"^pciedma: pciedma-loop 1\.0 for kernel \S+: FAILED$", failed, re.M)
    assert "#error broken on purpose" in failed
    assert re.search(r"The whole log: /var/lib/dkms/pciedma-loop/1\.0/failed-\S+\.log$", failed, re.M)
    assert _modules(failed) == driver.modules()
    assert _BUILT.findall(mended) == _BOTH[1:]
    assert _modules(mended) == _MODULES
    assert lines(purged, "/") == []


def test_driver_whose_build_fails_has_it_skipped_and_dpkg_configured(debian: Distribution, package: Path) -> None:
    output = debian.run(f"""
        break_headers; install {package}; state pciedma-dkms; state {_PACKAGE}; dpkg --audit; echo ==
        export DPKG_MAINTSCRIPT_PACKAGE=linux-headers
        try run-parts --exit-on-error --arg=$kernel /etc/kernel/header_postinst.d; echo ==; mend_headers
        try run-parts --exit-on-error --arg=$kernel /etc/kernel/header_postinst.d; {_FIND}
    """)
    installed, hooks, mended = output.split("==\n")
    assert lines(installed, "< ") == lines(hooks, "< ") == lines(mended, "< ") == ["< 0"]
    assert lines(installed, "state: ") == ["state: ii "] * 2
    for said in (installed, hooks):
        assert re.search(r"^pciedma: the modules for kernel \S+: FAILED\r?$", said, re.M)
        assert re.search(r"^pciedma: pciedma-loop 1\.0 for kernel \S+: skipped, it is built with ", said, re.M)
    assert _BUILT.findall(mended) == _BOTH
    assert _modules(mended) == _MODULES


def test_kernel_that_is_replaced_by_one_of_the_same_name_has_both_built_anew(
    debian: Distribution, package: Path
) -> None:
    output = debian.run(f"""
        install {package} > /dev/null; export DPKG_MAINTSCRIPT_PACKAGE=linux-image
        [ ! -d /etc/kernel/preinst.d ] || run-parts --arg=$kernel /etc/kernel/preinst.d > /dev/null 2>&1
        {_FIND}; echo ==; run-parts --exit-on-error --arg=$kernel /etc/kernel/postinst.d; {_FIND}
    """)
    left, built = output.split("==\n")
    assert _modules(left) == ([] if debian.suite != "bookworm" else _MODULES)  # whose DKMS has no such hook
    assert _modules(built) == _MODULES


def test_dkms_by_hand_builds_both_in_order(debian: Distribution, package: Path) -> None:
    output = debian.run(f"""
        mv /lib/modules/$kernel/build /root/; install {package} > /dev/null; mv /root/build /lib/modules/$kernel/
        try dkms autoinstall -k $kernel; {_FIND}
    """)
    assert lines(output, "< ") == ["< 0"]
    assert _modules(output) == _MODULES


def test_driver_that_goes_alone_takes_its_modules_and_brings_them_back(debian: Distribution, package: Path) -> None:
    output = debian.run(f"""
        install {package} > /dev/null
        try dpkg --force-depends --remove pciedma-dkms 2>&1; echo ==; {_FIND}; dkms status
        echo ==; install pciedma-dkms; {_FIND}
    """)
    removed, left, back = output.split("==\n")
    assert lines(removed, "< ") == lines(back, "< ") == ["< 0"]
    assert lines(removed, "pciedma: ") == [
        "pciedma: pciedma-loop/1.0 needs the driver: its modules are removed, "
        "and built again when pciedma-dkms is installed"
    ]
    assert left.splitlines() == ["pciedma-loop/1.0: added"]
    assert _BUILT.findall(back) == _BOTH
    assert _modules(back) == _MODULES


def test_back_end_that_dkms_is_told_of_by_hand_is_built_without_a_package(debian: Distribution) -> None:
    (command,) = re.findall(r"^- Without a package: `(.*)`\.$", _SECTION, re.M)
    output = debian.run(f"""
        install pciedma-dkms > /dev/null; cd /root; cp -r {PROJECT}/examples/card mycard
        {command.replace("sudo ", "try ")}; {_FIND}
    """)
    assert lines(output, "< ") == ["< 0"] * 2
    assert _BUILT.findall(output) == _BOTH[1:]
    assert _modules(output) == _MODULES


#: 60,000 bytes there and back, as a member of the group, and the card's lamps, as root.
_MOVE = """
head -c 60000 /dev/urandom > /tmp/data
python3 /usr/share/doc/python3-pciedma/examples/memory_copy.py {number} 0 /tmp/data
"""
_LAMPS = """python3 -c '
import pciedma
with pciedma.open({number}) as card, card.window("user") as lamps:
    lamps.write32(0, 5)
    print(lamps.read32(0))
'"""


def _assert_works(seat: Seat, version: str) -> None:
    """The card is bound, listed, and moves data; its registers are there."""
    seat.root("udevadm settle")
    assert seat.root("cat /sys/module/pciedma/version").strip() == version
    assert "pciedma_loop" in seat.root("ls /sys/module/pciedma/holders").split()
    numbers = systems.cards_by_name(seat)
    assert numbers.keys() == {"capric", "loop"}
    assert "read back as written" in seat.user("alice", _MOVE.format(number=numbers["loop"]), 120)
    assert seat.root(_LAMPS.format(number=numbers["loop"])).strip() == "5"


@pytest.mark.parametrize("suite", sorted(deb_command.RELEASES))
def test_card_works_from_installation_to_removal(suite: str, packages: dict[str, Path]) -> None:
    repository = deb_command.make_version(suite, _NEXT_VERSION)
    folder = systems.new_folder(suite, "outside-card")
    system = System(suite, fresh(suite).copy(folder / "disk"), folder)

    def plugged() -> list[EmulatedCard]:
        return [EmulatedCard("capric"), EmulatedCard(str(PROJECT / "examples/card/loop.py"))]

    with system.on(plugged(), edu=0) as seat:
        seat.root(systems.apt_sources(f"/mnt/project/dist/{suite}"))
        package = f"/mnt/project/{packages[suite].relative_to(PROJECT)}"
        said = seat.root(f"{systems.APT} install {package} pciedma", BUILD_SECONDS)
        assert _BUILT.findall(said) == _BOTH
        seat.root("adduser alice pciedma")
        _assert_works(seat, __version__)
        seat.root(systems.apt_sources(f"/mnt/project/{repository.relative_to(PROJECT)}"))
        said = seat.root(f"{systems.APT} upgrade", BUILD_SECONDS)
        assert _BUILT.findall(said) == _BOTH
        _, *reload = seat.doctor()["version"]["steps"]  # behind who has them open, which is nobody
        seat.take_steps({"steps": reload})
        _assert_works(seat, _NEXT_VERSION)
    with system.on(plugged(), edu=0) as seat:
        _assert_works(seat, _NEXT_VERSION)
        said = seat.root(f"{systems.APT} purge {_PACKAGE}")
        assert systems.cards_by_name(seat).keys() == {"capric"}
        assert seat.root("grep pciedma_loop /proc/modules || true") == ""
        assert _modules(seat.root(_FIND)) == driver.modules()
        seat.root(f"{systems.APT} purge {systems.PACKAGES}")
        assert lines(seat.root(LEFT), "/") == []
        assert seat.root("dpkg --audit; systemctl --failed -q") == ""
    system.remove()
