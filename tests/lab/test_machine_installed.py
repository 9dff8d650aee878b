"""Installed systems: their disks, and what Secure Boot boots."""

from __future__ import annotations

import base64
import dataclasses
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from pciedma_lab import installed, secure_boot
from pciedma_lab.chroot import Chroot
from pciedma_lab.installed import Installed


def test_copy_is_a_disk_of_its_own_with_the_same_kernel(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"data" + bytes(1 << 20))
    system = Installed(disk, tmp_path / "vmlinuz", tmp_path / "initrd.img", ("quiet",), True, (tmp_path / "mok.pub",))
    copy = system.copy(tmp_path / "new/folder/disk")
    assert copy == dataclasses.replace(system, disk=tmp_path / "new/folder/disk")
    assert copy != system
    assert copy.disk.read_bytes() == disk.read_bytes()
    copy.disk.write_bytes(b"other")
    assert disk.read_bytes()[:4] == b"data"


def test_disk_is_without_the_mount_points_of_the_hosts_folders(tmp_path: Path) -> None:
    """As far as they are empty; debugfs is played."""
    whole, tools = tmp_path / "whole", tmp_path / "bin"
    places = [tmp_path / "whole/home/ada/my pciedma", tmp_path / "whole/root/.cache/pciedma"]
    for folder in (tools, *places):
        folder.mkdir(parents=True)
    (whole / "home/bob").mkdir()
    played = tools / "debugfs"
    played.write_text("#!/bin/sh\n[ \"$1 $2 $4\" = \"-w -R /target/disk\" ] && eval \"$3\"\n")
    played.chmod(0o755)
    script = installed.disk_script(Path("/target"), places)
    loop = script[script.index("for place in"):script.index("cp /boot/vmlinuz")]
    subprocess.run(["sh", "-ec", loop], check=True, env={"PATH": f"{tools}:{os.environ['PATH']}"})
    assert sorted(path.name for path in whole.rglob("*")) == ["bob", "home"]


def test_boot_without_firmware_says_all_that_the_guest_needs(tmp_path: Path) -> None:
    system = Installed(tmp_path / "disk", tmp_path / "vmlinuz", tmp_path / "initrd.img", ("quiet",))
    assert system.boot(tmp_path) == {
        "image": system.kernel,
        "initramfs": system.initramfs,
        "root": system.disk,
        "is_installed": True,
        "words": ("quiet",),
        "firmware": None,
    }


def test_firmware_trusts_the_certificates_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(Chroot, "provide", lambda self: Path("/chroot"))
    monkeypatch.setattr(Chroot, "run", lambda self, argv: commands.append(argv))
    key = tmp_path / "mok.pub"
    key.write_bytes(b"certificate")
    system = Installed(tmp_path, tmp_path, tmp_path, secure_boot=True, certificates=(key,))
    firmware = system.boot(tmp_path)["firmware"]
    assert firmware.variables == tmp_path / "variables.fd"
    text = Path(commands[0][-1]).read_text()
    assert commands[0][-3] == "--add-mok"
    assert text.splitlines()[1] == base64.b64encode(b"certificate").decode()


def test_boot_folder_has_what_debians_shim_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chroot = tmp_path / "chroot"
    for name in ("usr/lib/shim/shimx64.efi.signed", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"):
        (chroot / name).parent.mkdir(parents=True)
        (chroot / name).write_text(name)
    monkeypatch.setattr(Chroot, "provide", lambda self: chroot)
    for name in ("kernel", "initramfs"):
        (tmp_path / name).write_text(name)
    boot = tmp_path / "boot"
    secure_boot.fill_boot_folder(boot, tmp_path / "kernel", tmp_path / "initramfs", "quiet ro")
    assert (boot / "EFI/BOOT/BOOTX64.EFI").read_text().endswith("shimx64.efi.signed")
    assert (boot / "EFI/BOOT/grubx64.efi").read_text().endswith("grubx64.efi.signed")
    assert (boot / "vmlinuz").read_text() == "kernel"
    assert "linux /vmlinuz quiet ro\ninitrd /initrd\n" in (boot / "EFI/debian/grub.cfg").read_text()


def test_disks_script_makes_the_agent_start(tmp_path: Path) -> None:
    script = installed.disk_script(tmp_path / "target")
    assert "guest_agent.py" in script
    assert (Path(installed.__file__).parent / "guest_agent.py").exists()
    assert f"mke2fs -q -t ext4 -L pciedma -d /root/whole {tmp_path / 'target'}/disk" in script


def test_disks_script_bears_any_place(tmp_path: Path) -> None:
    script = installed.disk_script(tmp_path / "a b's")
    quoted = shlex.quote(f"{tmp_path}/a b's")
    assert f"-d /root/whole {quoted}/disk" in script
    assert script.count("a b") == script.count(quoted)
