"""What a kernel's bootable image is unpacked to: an emulated processor takes seconds for that at each boot."""

from __future__ import annotations

import lzma
import shutil
import struct
from pathlib import Path

from . import cache
from .cache import LabError
from .chroot import EMULATOR
from .kernels import Kernel

_XZ = b"\xfd7zXZ\0"
_ZSTD = b"\x28\xb5\x2f\xfd"
#: Of the boot protocol: the magic of its header, and where its fields are that say where the compressed kernel is.
_MAGIC = (0x202, b"HdrS")
_SETUP_SECTORS = 0x1F1
_PAYLOAD = 0x248
#: After the compressed kernel, as a part of it: how long it was.
_SIZE_BYTES = 4


def to_boot(kernel: Kernel) -> Path:
    """Return what QEMU can boot of a kernel: the unpacked one, if that can begin on its own (PVH), or the image.

    The debug kernel cannot: KASAN does not bear what runs before its memory is set up.
    """
    if "CONFIG_PVH=y\n" not in (kernel.headers / ".config").read_text():
        return kernel.image
    return cache.provide(kernel.folder / "vmlinux", lambda target: _unpack(kernel.image, target))


def _payload(image: Path) -> bytes:
    """Return the compressed kernel in a bootable image; raises LabError if there is none."""
    data = image.read_bytes()
    place, magic = _MAGIC
    if data[place : place + len(magic)] != magic:
        raise LabError(f"{image}: this is no image of a kernel for x86")
    offset, length = struct.unpack_from("<II", data, _PAYLOAD)
    start = (data[_SETUP_SECTORS] + 1) * 512 + offset
    return data[start : start + length - _SIZE_BYTES]


def _unpack(image: Path, target: Path) -> None:
    data = _payload(image)
    if data.startswith(_XZ):
        target.write_bytes(lzma.decompress(data))
    elif data.startswith(_ZSTD):
        packed = target.with_name(f"{target.name}.zst")
        packed.write_bytes(data)
        EMULATOR.run(["zstd", "--quiet", "--force", "--rm", "-d", str(packed), "-o", str(target)])
    else:
        shutil.copyfile(image, target)  # its own code unpacks it
