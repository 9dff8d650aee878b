"""What of a kernel QEMU boots."""

from __future__ import annotations

import lzma
import struct
import zlib
from pathlib import Path

import pytest

from pciedma_lab import kernel_image, kernels
from pciedma_lab.cache import LabError
from pciedma_lab.chroot import EMULATOR

VMLINUX = bytes(range(256)) * 500


def make_image(payload: bytes, offset: int = 0x21C) -> bytes:
    """An image of the boot protocol, with 15 sectors of set-up, code before the payload, and more behind it."""
    setup = bytearray(16 * 512)
    setup[0x1F1] = 15
    setup[0x202:0x206] = b"HdrS"
    length = struct.pack("<I", len(VMLINUX))
    setup[0x248:0x250] = struct.pack("<II", offset, len(payload) + len(length))
    return bytes(setup) + b"\x90" * offset + payload + length + b"code"


def make_kernel(folder: Path, image: bytes, config: str) -> kernels.Kernel:
    for path in ("boot", "usr/lib/modules/6.1/kernel", "usr/src/linux-headers-6.1"):
        (folder / path).mkdir(parents=True)
    (folder / "boot/vmlinuz-6.1").write_bytes(image)
    (folder / "usr/src/linux-headers-6.1/.config").write_text(f"CONFIG_A=y\n{config}\n")
    return kernels.Kernel(kernels.SERIES["bookworm"], folder)


def zstd(data: bytes, folder: Path) -> bytes:
    """Compress with what unpacks it."""
    plain = folder / "plain"
    plain.write_bytes(data)
    EMULATOR.run(["zstd", "--quiet", str(plain)])
    return plain.with_name("plain.zst").read_bytes()


@pytest.mark.parametrize("compression", ["xz", "zstd"])
def test_kernel_that_begins_on_its_own_is_unpacked(tmp_path: Path, compression: str) -> None:
    data = lzma.compress(VMLINUX) if compression == "xz" else zstd(VMLINUX, tmp_path)
    kernel = make_kernel(tmp_path, make_image(data), "CONFIG_PVH=y")
    booted = kernel_image.to_boot(kernel)
    assert (booted, booted.read_bytes()) == (tmp_path / "vmlinux", VMLINUX)
    assert kernel_image.to_boot(kernel) == booted


@pytest.mark.parametrize(
    ("payload", "config"),
    [(lzma.compress(VMLINUX), "# CONFIG_PVH is not set"), (zlib.compress(VMLINUX), "CONFIG_PVH=y")],
    ids=["begins by its image alone", "another compression"],
)
def test_other_kernel_boots_as_it_came(tmp_path: Path, payload: bytes, config: str) -> None:
    kernel = make_kernel(tmp_path, make_image(payload), config)
    assert kernel_image.to_boot(kernel).read_bytes() == kernel.image.read_bytes()


def test_what_is_no_image_is_told(tmp_path: Path) -> None:
    kernel = make_kernel(tmp_path, b"\x7fELF" + bytes(4096), "CONFIG_PVH=y")
    with pytest.raises(LabError, match=r"vmlinuz-6\.1: this is no image of a kernel for x86"):
        kernel_image.to_boot(kernel)
