"""Firmware with Secure Boot: what it is told to trust, and what it boots: Debian's shim, GRUB and kernel."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Sequence
from pathlib import Path

from .chroot import FIRMWARE
from .qemu import Firmware

#: Who enrolled the certificates: any number will do.
_OWNER = "a7d3b9f0-52c4-4c0e-9d3a-2f6e8f1b6c11"


def firmware(folder: Path, certificates: Sequence[Path]) -> Firmware:
    """Return firmware with variables of its own in *folder*, which trusts *certificates* (DER) as machine owner's keys.

    The folder that it boots from is yet to be filled by fill_boot_folder().
    """
    files = FIRMWARE.provide() / "usr/share/OVMF"
    variables = folder / "variables.fd"
    words = ["virt-fw-vars", "--input", str(files / "OVMF_VARS_4M.ms.fd"), "--output", str(variables)]
    for number, certificate in enumerate(certificates):
        text = folder / f"certificate{number}.pem"
        text.write_text(ssl.DER_cert_to_PEM_cert(certificate.read_bytes()))
        words += ["--add-mok", _OWNER, str(text)]
    FIRMWARE.run(words)
    return Firmware(files / "OVMF_CODE_4M.secboot.fd", variables, folder / "boot")


def fill_boot_folder(folder: Path, kernel: Path, initramfs: Path, command_line: str) -> None:
    """Put into *folder* what the firmware boots, as on Debian's EFI system partition."""
    efi, debian = folder / "EFI/BOOT", folder / "EFI/debian"
    for path in (efi, debian):
        path.mkdir(parents=True)
    root = FIRMWARE.provide()
    shutil.copy(root / "usr/lib/shim/shimx64.efi.signed", efi / "BOOTX64.EFI")
    shutil.copy(root / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", efi / "grubx64.efi")
    shutil.copy(kernel, folder / "vmlinuz")
    shutil.copy(initramfs, folder / "initrd")
    (debian / "grub.cfg").write_text(f"set timeout=0\nlinux /vmlinuz {command_line}\ninitrd /initrd\nboot\n")
