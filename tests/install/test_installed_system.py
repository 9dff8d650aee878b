"""The packages on installed Debian systems with systemd: from apt install to purge, and what doctor says on the way."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pciedma import __version__
from pciedma_lab import deb_command
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.chroot import PROJECT
from pciedma_lab.guest_process import MachineFailed
from pciedma_lab.installed import fresh

from .. import driver
from . import systems
from .conftest import LEFT, lines
from .seat import BUILD_SECONDS, Seat
from .systems import Installation, System

_NEXT_VERSION = "99.0"
_NODES = {"": "card", "c0": "channel"}
_MODULES = driver.modules()


@pytest.fixture(scope="session", params=sorted(deb_command.RELEASES))
def installation(request: pytest.FixtureRequest) -> Iterator[Installation]:
    """A system on which the packages have just been installed by apt, on Debian 12, then 13."""
    suite: str = request.param
    folder = systems.new_folder(suite, "installation")
    system = System(suite, fresh(suite).copy(folder / "disk"), folder)
    yield systems.install(system)
    system.remove()


@pytest.fixture
def system(installation: Installation, request: pytest.FixtureRequest) -> Iterator[System]:
    """That system on a disk of the test's own."""
    copy = installation.system.copy(request.node.originalname)
    yield copy
    copy.remove()


def _assert_in_order(seen: dict[str, str]) -> None:
    """All is there as it should be, and works for members alone."""
    assert seen["modules"].split() == _MODULES
    nodes = [line.split() for line in seen["nodes"].splitlines()]
    expected = [f"/dev/pciedma{number}{part}" for number in range(3) for part in _NODES]
    assert sorted(node for node, *_ in nodes) == expected
    assert {(owner, mode) for _, owner, mode in nodes} == {("root:pciedma", "660")}
    links = dict(line.split() for line in seen["links"].splitlines())
    assert sorted(links.values()) == expected
    assert all(re.fullmatch(r"pci-0000:[0-9a-f:.]+(-c0)?", name) for name in links)
    assert seen["alice"].count("status 0\n") == 3
    assert "bytes there and back: a checked message" in seen["alice"]
    assert seen["alice"].count("read back as written") == 2
    assert seen["bob"].count("status 1\n") == seen["bob"].count(f"[Errno {errno.EACCES}]") == 3


def test_install_binds_cards_without_a_reboot(installation: Installation) -> None:
    assert re.search(r"^pciedma: the modules for kernel \S+: built and installed$", installation.said, re.M)
    _assert_in_order(installation.seen)


def test_reboot_finds_all_as_it_was(system: System) -> None:
    with system.on() as seat:
        _assert_in_order(systems.look(seat))
        assert set(seat.doctor()) <= {"kernel log", "others"}


def test_upgrade_leaves_open_files_alone_and_doctor_says_how_to_go_on(system: System) -> None:
    repository = deb_command.make_version(system.suite, _NEXT_VERSION)
    with system.on() as seat:
        seat.root(systems.apt_sources(f"/mnt/project/{repository.relative_to(PROJECT)}"))
        capric = systems.cards_by_name(seat)["capric"]
        script = f"""python3 -c '
import pciedma, pathlib, time
with pciedma.open({capric}) as card, card.channel(0) as channel:
    while not pathlib.Path("/tmp/enough").exists():
        channel.write(b"hello"); assert channel.read(5) == b"hello"; time.sleep(0.1)
'"""
        busy = seat.vm.start_run(["runuser", "-l", "alice", "-c", script])
        seat.root(f"until ls -l /proc/*/fd | grep -q pciedma{capric}c0; do sleep 1; done")
        said = seat.root(f"{systems.APT} upgrade", BUILD_SECONDS)
        assert re.search(r"^pciedma: the modules for kernel \S+: built and installed$", said, re.M)
        assert not busy.done
        stale = seat.doctor()["version"]
        assert f"loaded {__version__}, installed {_NEXT_VERSION}" in stale["summary"]
        who, *reload = stale["steps"]
        assert "python3" in seat.root(who)
        seat.root("touch /tmp/enough")
        assert busy.wait(60) == 0
        seat.take_steps({"steps": reload})
        assert seat.root("cat /sys/module/pciedma/version").strip() == _NEXT_VERSION
        assert "version" not in seat.doctor()
        _assert_in_order(systems.look(seat))


def test_kernel_upgrade_without_headers_and_with_a_build_that_fails_is_led_on_by_doctor(system: System) -> None:
    shutil.copytree(systems.kernel_repository(system.suite), system.share)
    with system.on() as seat:
        seat.root(systems.apt_sources("/mnt/results"))
        old = seat.vm.kernel_release
        seat.root(f"{systems.APT} purge 'linux-headers-*'")  # else apt brings those of the new kernel, too
        image = seat.root("sed -n 's/^Package: \\(linux-image-[0-9].*\\)/\\1/p' /mnt/results/Packages").strip()
        said = seat.root(f"{systems.APT} install {image}", BUILD_SECONDS)
        assert re.search(r"^pciedma: the modules for kernel \S+: skipped, its headers are missing; ", said, re.M)
        new = seat.root(f"ls /lib/modules | grep -vxF {old}").strip()
        system.take_kernel(seat, new)
    with system.on() as seat:
        assert seat.vm.kernel_release == new
        assert seat.root("grep pciedma /proc/modules || true") == ""
        findings = seat.doctor()
        assert "others" not in findings  # there are our cards, but whose they are only modules know
        missing = findings["modules"]
        assert missing["summary"] == f"no kernel headers for {new}"
        header = f"/usr/src/pciedma-{__version__}/include/pciedma_card.h"
        seat.root(f"cp {header} /root/; echo '#error broken on purpose' >> {header}")
        seat.root(missing["steps"][0], BUILD_SECONDS)
        failed = seat.doctor()["modules"]
        assert failed["summary"] == f"the build for {new} failed"
        assert "#error broken on purpose" in failed["cause"]
        seat.root(f"cp /root/pciedma_card.h {header}")
        seat.root(failed["steps"][-1], BUILD_SECONDS)
        assert f"/lib/modules/{old}/" in seat.root("find /lib/modules -name 'pciedma*.ko*'")
        for _ in _MODULES[1:]:  # what stands under the first problem, then doctor again
            seat.take_steps(seat.doctor()["loading"])
        _assert_in_order(systems.look(seat))
        assert not {"modules", "loading"} & seat.doctor().keys()


def _another_driver(seat: Seat, address: str) -> None:
    seat.root(f"modprobe pci-stub; echo pci-stub > /sys/bus/pci/devices/{address}/driver_override; "
              f"echo {address} > /sys/bus/pci/devices/{address}/driver/unbind; "
              f"echo {address} > /sys/bus/pci/drivers_probe")


def test_doctor_names_the_cause_and_its_steps_mend_it(system: System) -> None:
    own = EmulatedCard("capric", variant="own-id")
    plugged = [EmulatedCard("xdma"), own]
    with system.on(plugged) as seat:
        xdma = seat.user("bob", "lspci -D -d 10ee: | cut -d' ' -f1").strip()
        board = seat.user("bob", "lspci -D -d 1234:5678 | cut -d' ' -f1").strip()
        _stranger_is_told_of_the_group(seat)
        seat.root("printf 'alice - memlock 64\\n' > /etc/security/limits.d/zz.conf")
        assert "64 KiB" in seat.doctor()["memlock"]["summary"]
        seat.root("rm /etc/security/limits.d/zz.conf")
        _another_driver(seat, xdma)
        foreign = seat.doctor()["driver"]
        assert foreign["summary"].endswith("belongs to the driver pci-stub")
        seat.take_steps(foreign)
        assert "driver" not in seat.doctor()
        seat.root("modprobe -r pciedma_xdma")
        unloaded = seat.doctor()["loading"]
        assert unloaded["summary"].startswith("pciedma_xdma is not loaded")
        seat.take_steps(unloaded)
        assert "loading" not in seat.doctor()
        seat.root(f"rmmod pciedma_xdma pciedma_edu pciedma; dkms uninstall pciedma/{__version__} -k $(uname -r)")
        removed = seat.doctor()["modules"]
        assert removed["summary"] == f"not built for the running kernel {seat.vm.kernel_release}"
        seat.take_steps(removed)
        seat.root("modprobe -a pciedma_xdma pciedma_edu")
        unknown = seat.doctor(options=f"--device {board}")["device"]
        assert unknown["summary"].endswith("has ids that the driver does not know: 1234:5678")
        assert "pciedma_capric" in unknown["cause"]
        unknown["steps"] = [step.replace("pciedma_xdma", "pciedma_capric") for step in unknown["steps"]]
        seat.take_steps(unknown)
        assert seat.doctor(options=f"--device {board}").get("device") is None
        assert set(systems.cards_by_name(seat)) == {"xdma", "edu", "capric"}
    with system.on(plugged) as seat:  # a board's ids are known after the next start, too
        assert "bytes there and back: a checked message" in systems.look(seat)["alice"]


def _stranger_is_told_of_the_group(seat: Seat) -> None:
    closed = seat.doctor("bob")["nodes"]
    assert closed["cause"] == "bob is not in the group pciedma."
    seat.take_steps(closed)
    assert "nodes" not in seat.doctor("bob")
    seat.root("gpasswd -d bob pciedma")


def test_purge_leaves_the_group_alone(system: System) -> None:
    with system.on() as seat:
        seat.root("mkdir /root/before; cp /etc/group /root/before")
        seat.root(f"{systems.APT} purge {systems.PACKAGES}")
        seat.root("cmp /etc/group /root/before/group")
        assert lines(seat.root(LEFT), "/") == []
        assert seat.root("grep pciedma /proc/modules || true") == ""
        assert seat.root("ls -d /dev/pciedma* 2>/dev/null || true") == ""
        assert seat.root("getent group pciedma").startswith("pciedma:x:")
        assert seat.root("dpkg --audit; systemctl --failed -q") == ""


def test_signature_that_is_refused_is_explained(system: System) -> None:
    with system.on(words=("module.sig_enforce=1",)) as seat:
        seat.vm.expect_log("Loading of (unsigned module|module with unavailable key) is rejected")
        assert seat.root("grep pciedma /proc/modules || true") == ""
        said = seat.try_root("modprobe pciedma_xdma")
        assert said.returncode
        assert "Key was rejected by service" in said.stdout
        unsure = seat.doctor()["signature"]
        assert unsure["summary"].startswith("module.sig_enforce demands signed modules; whether")
        refused = seat.doctor("root")["signature"]  # who may read the kernel's log
        assert refused["summary"] == "module.sig_enforce demands signed modules, and the key of ours is not trusted"


def test_secure_boot_takes_the_modules_when_their_key_is_enrolled(system: System) -> None:
    with system.on() as seat:
        seat.root("cp /var/lib/dkms/mok.pub /mnt/results/")
    key = system.share / "mok.pub"
    with system.on(secure_boot=True) as seat:
        assert "SecureBoot enabled" in seat.root("mokutil --sb-state")
        assert seat.try_root("modprobe pciedma_xdma").returncode
        refused = seat.doctor()["signature"]
        assert "mokutil --import /var/lib/dkms/mok.pub" in "".join(refused["steps"])
    enrolled = Path(key)
    with system.on(secure_boot=True, certificates=(enrolled,), words=("module.sig_enforce=1",)) as seat:
        assert "is already enrolled" in seat.try_root("mokutil --test-key /var/lib/dkms/mok.pub").stdout
        _assert_in_order(systems.look(seat))
        assert "signature" not in seat.doctor()
        assert "DKMS module signing key" in seat.root("modinfo -F signer pciedma")


def test_machine_in_emergency_mode_ends_at_once(system: System) -> None:
    with pytest.raises(MachineFailed, match="QEMU ended with status 0"), \
            system.on(words=("systemd.unit=emergency.target",)):
        pytest.fail("the machine came up")
