"""The guest's root file system and the initramfs that mounts it, made from chroots and a kernel."""

from __future__ import annotations

import functools
import hashlib
import lzma
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from . import cache, chroot, project
from .chroot import EMULATOR, Chroot
from .kernels import Kernel

#: What a guest needs before it has its root: block device, file systems, the agent's port.
_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "ext4",
    "crc32c_generic",
    "overlay",
    "9pnet_virtio",
    "9p",
)

_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /lower /rw /new
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read name; do insmod /modules/$name || echo "cannot load $name"; done < /modules/order
mount -t ext4 -o ro,noatime /dev/vda /lower
mount -t tmpfs rw /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /new
nine=trans=virtio,version=9p2000.L,msize=262144
share() { # to read: the name of a folder of the host's, and where it is wanted
    grep -qsw $1 /sys/bus/virtio/devices/*/mount_tag && mkdir -p $2 && mount -t 9p -o ro,$nine,cache=loose $1 $2
}
share project /new/mnt/project
share work /new/mnt/work
share modules /new/usr/lib/modules/$(uname -r)
share root /lower-root
mkdir -p /new/mnt/results
mount -t 9p -o $nine,cache=mmap results /new/mnt/results
for part in proc sys dev; do mount --move /$part /new/$part; done
mount -t tmpfs tmp /new/tmp
for name in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -s /proc/self/${name#*:} /new/dev/${name%:*}; done
mkdir -p /new/dev/shm && mount -t tmpfs shm /new/dev/shm
mount -t tracefs trace /new/sys/kernel/tracing
ip link set lo up
echo 127.0.0.1 localhost > /new/etc/hosts
if [ -d /lower-root ]; then
    mkdir /rw/root-upper /rw/root-work /new/mnt/root
    mount -t overlay -o lowerdir=/lower-root,upperdir=/rw/root-upper,workdir=/rw/root-work overlay /new/mnt/root
    for part in proc sys dev tmp mnt/project mnt/results mnt/work usr/lib/modules; do
        [ ! -d /new/$part ] || { mkdir -p /new/mnt/root/$part; mount -o rbind /new/$part /new/mnt/root/$part; }
    done
fi
for root in /new /new/mnt/root; do
    [ -d $root ] || continue
    for part in usr usr/local usr/local/bin; do [ ! -L $root/$part ] || continue 2; done # it would lead out of the root
    for part in usr/local/sbin usr/local/bin usr/sbin usr/bin sbin bin; do
        [ ! -e $root/$part/pciedma ] && [ ! -L $root/$part/pciedma ] || continue 2
    done
    mkdir -p $root/usr/local/bin
    printf '#!/bin/sh\nPYTHONPATH=/mnt/project/python:$PYTHONPATH ' > $root/usr/local/bin/pciedma
    echo 'exec python3 -P -m pciedma "$@"' >> $root/usr/local/bin/pciedma
    chmod 755 $root/usr/local/bin/pciedma
done
exec switch_root /new /bin/sh -c 'cd /mnt/project/python; python3 -m pciedma_lab.guest_agent; echo the agent ended'
"""


@functools.cache
def compile_imported(packages: Sequence[str] = ()) -> None:
    """Let the guest's Python find what it imports of the project's compiled: an emulated processor is slow at that.

    What cannot be compiled, or written, fails where it is imported, or is compiled there.
    """
    folders = [path for path in (project.FOLDER / "python", project.FOLDER / "tests/vm/guest") if path.is_dir()]
    chroot.guest(packages).attempt(["python3", "-m", "compileall", "-q", *map(str, folders)])


def root_image(packages: Sequence[str] = ()) -> Path:
    """Return the read-only ext4 image of the guest's root file system, with more of Debian's *packages*."""
    system = chroot.guest(packages)
    guest = system.provide()
    return cache.provide(guest.with_name(f"{guest.name}.ext4"), lambda target: _make_root(system, guest, target))


def _make_root(system: Chroot, guest: Path, target: Path) -> None:
    options = ["-q", "-t", "ext4", "-O", "^has_journal", "-d", str(guest)]
    with cache.step("making the guest's root file system"):
        system.run(["sh", "-c", "python3 -m compileall -q /usr/lib/python3.*"], cwd=Path("/"))
        size = sum(path.lstat().st_size for path in guest.rglob("*") if not path.is_dir()) // 2**20
        EMULATOR.run(["mke2fs", *options, str(target), f"{size * 5 // 4 + 64}M"])


def initramfs(kernel: Kernel) -> Path:
    """Return the initramfs for a kernel."""
    key = hashlib.sha256((_INIT + repr(_MODULES)).encode()).hexdigest()[:12]
    target = cache.root() / f"initramfs-{kernel.folder.name}-{key}.cpio"
    return cache.provide(target, lambda temporary: _make_initramfs(kernel, temporary))


def _make_initramfs(kernel: Kernel, target: Path) -> None:
    stage = target.with_name(f"{target.name}.stage")
    cache.remove(stage)
    (stage / "bin").mkdir(parents=True)
    (stage / "modules").mkdir()
    emulator = EMULATOR.provide()
    shutil.copy(emulator / "usr/bin/busybox", stage / "bin/busybox")
    _write_executable(stage / "init", _INIT)
    order = []
    for path in _closure(kernel):
        name = path.name.removesuffix(".xz")
        order.append(name)
        data = path.read_bytes()
        (stage / "modules" / name).write_bytes(lzma.decompress(data) if path.suffix == ".xz" else data)
    (stage / "modules/order").write_text("".join(f"{name}\n" for name in order))
    EMULATOR.run(["sh", "-c", f"find . | cpio --quiet -o -H newc > {shlex.quote(str(target))}"], cwd=stage)
    cache.remove(stage)
    cache.prune("initramfs-", cache.final_name(target))


def _write_executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _closure(kernel: Kernel) -> list[Path]:
    """Return the files of _MODULES and all they depend on, each after its dependencies.

    A module that this kernel does not have is built into it.
    """
    needs: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
        names[Path(path).name.split(".")[0].replace("-", "_")] = path
    ordered: list[str] = []

    def visit(path: str) -> None:
        for other in reversed(needs[path]):
            visit(other)
        if path not in ordered:
            ordered.append(path)

    for name in _MODULES:
        if name in names:
            visit(names[name])
    return [kernel.modules / path for path in ordered]
