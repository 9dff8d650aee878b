"""Whole installed Debian systems, on disks of their own, for the machine: to install the packages on."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import cache, secure_boot
from .cache import LabError
from .chroot import INSTALLED, PROJECT
from .qemu import ROOT_LABEL

#: Two people without a password. Of them the tests make one a member of the group.
USERS = ("alice", "bob")

_DISK_SIZE = "6G"

_AGENT_UNIT = """[Unit]
Description=What the host's Machine asks for
After=multi-user.target
RequiresMountsFor=/mnt/project /mnt/results

[Service]
ExecStart=/usr/bin/python3 /mnt/project/python/pciedma_lab/guest_agent.py
KillMode=process
LimitMEMLOCK=8M

[Install]
WantedBy=multi-user.target
"""

#: While udev loads this module, a mount may find its transport without channels, and fail: mounts wait for it.
_TRANSPORT = "9pnet_virtio"
_9P = "trans=virtio,version=9p2000.L,msize=262144,x-systemd.requires=systemd-modules-load.service"

_FSTAB = f"""LABEL={ROOT_LABEL} / ext4 rw,noatime 0 1
project /mnt/project 9p {_9P},ro,cache=loose 0 0
results /mnt/results 9p {_9P},cache=mmap 0 0
"""

#: A system that cannot mount what it needs waits for somebody at its console, who is not there.
_EMERGENCY = """[Service]
ExecStart=
ExecStart=/bin/systemctl --force --no-block poweroff
"""

#: What wants the network, or disturbs by beginning at its own time.
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "systemd-timesyncd.service",
)


def disk_script(target: Path, foreign: Sequence[Path] = ()) -> str:
    """Return what makes a disk of the chroot that it runs in, without the mount points of *foreign* folders."""
    folder = shlex.quote(str(target))
    return f"""set -e
rm -f /etc/dpkg/dpkg.cfg.d/*mmdebstrap* # which leaves out documentation
for user in {" ".join(USERS)}; do useradd --create-home --shell /bin/bash $user; done
echo pciedma-guest > /etc/hostname
echo 127.0.0.1 localhost pciedma-guest > /etc/hosts
mkdir -p /mnt/project /mnt/results
printf %s {shlex.quote(_FSTAB)} > /etc/fstab
echo {_TRANSPORT} > /etc/modules-load.d/{_TRANSPORT}.conf
printf %s {shlex.quote(_AGENT_UNIT)} > /etc/systemd/system/lab-agent.service
systemctl -q enable lab-agent.service
mkdir /etc/systemd/system/emergency.service.d
printf %s {shlex.quote(_EMERGENCY)} > /etc/systemd/system/emergency.service.d/lab.conf
systemctl -q mask {" ".join(_MASKED)}
mkdir /root/whole {folder}
mount --bind / /root/whole
mke2fs -q -t ext4 -L {ROOT_LABEL} -d /root/whole {folder}/disk {_DISK_SIZE}
for place in {shlex.join(map(str, foreign))}; do
    while [ "$place" != / ]; do # up to what is not empty
        debugfs -w -R "rmdir \\"$place\\"" {folder}/disk 2> /dev/null || true
        place=$(dirname "$place")
    done
done
cp /boot/vmlinuz-* {folder}/vmlinuz
cp /boot/initrd.img-* {folder}/initrd.img
chmod 644 {folder}/*
"""


@dataclass(frozen=True)
class Installed:
    """A disk with an installed system, and how the machine boots it.

    ``kernel`` and ``initramfs`` are the files that lie in its /boot; ``words`` go to the end of the kernel's command
    line. With ``secure_boot`` the machine's firmware checks what it boots; it trusts ``certificates`` (DER) beside
    what machines are delivered with.
    """

    disk: Path
    kernel: Path
    initramfs: Path
    words: tuple[str, ...] = ()
    secure_boot: bool = False
    certificates: tuple[Path, ...] = ()

    def boot(self, folder: Path) -> dict[str, Any]:
        """Return what a Guest has to know; files of this boot alone go to *folder*."""
        return {
            "image": self.kernel,
            "initramfs": self.initramfs,
            "root": self.disk,
            "is_installed": True,
            "words": self.words,
            "firmware": secure_boot.firmware(folder, self.certificates) if self.secure_boot else None,
        }

    def copy(self, disk: Path) -> Installed:
        """Return the same system on a copy of its disk."""
        disk.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(self.disk), str(disk)], check=True)
        return replace(self, disk=disk)


def fresh(suite: str) -> Installed:
    """Return a freshly installed Debian, to be copied: its disk is everybody's."""
    chroot = INSTALLED[suite]
    key = hashlib.sha256(disk_script(Path("disk")).encode()).hexdigest()[:12]
    target = cache.root() / f"installed-{suite}-{chroot.path.name.rpartition('-')[2]}-{key}"
    made = cache.provide(target, lambda temporary: _make(suite, temporary))
    cache.prune(f"installed-{suite}-", made)
    return Installed(made / "disk", made / "vmlinuz", made / "initrd.img")


def _make(suite: str, target: Path) -> None:
    with cache.step(f"making a disk with Debian {suite}"):
        result = INSTALLED[suite].run_scratch(disk_script(target, (PROJECT, cache.root())))
    if result.returncode:
        raise LabError(f"the disk of {suite} could not be made:\n{result.stdout}")
