"""The debug kernel: Debian's source, built here with everything on that finds mistakes.

Once for each version and configuration; some ten minutes on two processors.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

from . import cache
from .cache import LabError
from .chroot import KERNEL_BUILDER

CONFIG = Path(__file__).with_name("debug-kernel.config")

#: What building modules against a kernel needs of its tree, once that is built.
_KEPT = ("Makefile", "Kconfig", ".config", "Module.symvers", "System.map", "scripts", "include", "tools/objtool")
_KEPT_OF_ARCH = ("Makefile", "Makefile.um", "Makefile_32.cpu", "Kconfig", "include", "entry/syscalls", "tools")


def key() -> str:
    """Return what tells one configuration of the debug kernel from another."""
    return hashlib.sha256(CONFIG.read_bytes()).hexdigest()[:12]


def source_package(uris: str) -> tuple[str, str]:
    """Return name and version of the source package in the output of ``apt-get install --print-uris``."""
    found = re.search(r"^'\S+' (linux-source-[\d.]+)_([^_\s]+)_\S+\.deb ", uris, re.MULTILINE)
    if not found:
        raise LabError("the archive has no package of the kernel's source")
    return found[1], found[2].replace("%3a", ":")


def wanted_options(text: str) -> dict[str, str | None]:
    """Return the options that a fragment of a configuration asks for; None: must not be set."""
    options: dict[str, str | None] = dict(re.findall(r"^(CONFIG_\w+)=(\S+)$", text, re.MULTILINE))
    return options | dict.fromkeys(re.findall(r"^# (CONFIG_\w+) is not set$", text, re.MULTILINE))


def lost_options(fragment: str, config: str) -> list[str]:
    """Return the options of *fragment* that *config*, which came of it, does not have like that."""
    have = wanted_options(config)
    return [name for name, value in wanted_options(fragment).items() if have.get(name) != value]


def make(name: str, version: str, target: Path) -> None:
    """Download the source package *name* in *version*, build it, and keep in *target* what is needed."""
    target.mkdir(parents=True)
    with cache.step("building the debug kernel", f"{name} {version}"):
        tree = _unpack(name, version, target)
        _configure(tree)
        run = KERNEL_BUILDER.run
        run(["nice", "make", "-s", f"-j{os.cpu_count()}", "bzImage", "modules"], cwd=tree)
        release = run(["make", "-s", "kernelrelease"], cwd=tree).strip()
        _keep(tree, target, release)
        cache.remove(tree)


def _unpack(name: str, version: str, target: Path) -> Path:
    run = KERNEL_BUILDER.run
    run(["apt-get", "-qq", "download", f"{name}={version}"], cwd=target)
    run(["sh", "-ec", "dpkg-deb -x *.deb . && rm *.deb"], cwd=target)
    run(["tar", "xf", f"usr/src/{name}.tar.xz"], cwd=target)
    cache.remove(target / "usr")
    return target / name


def _configure(tree: Path) -> None:
    run = KERNEL_BUILDER.run
    shutil.copy(CONFIG, tree / CONFIG.name)
    run(["make", "-s", "tinyconfig"], cwd=tree)
    run(["scripts/kconfig/merge_config.sh", "-m", ".config", CONFIG.name], cwd=tree)
    run(["make", "-s", "olddefconfig"], cwd=tree)
    if lost := lost_options(CONFIG.read_text(), (tree / ".config").read_text()):
        raise LabError(f"the debug kernel would lack {', '.join(lost)}: see {CONFIG.name}")


def _keep(tree: Path, target: Path, release: str) -> None:
    """Lay out image, modules' folder and headers as a distribution's packages do."""
    (target / "boot").mkdir()
    shutil.copy(tree / "arch/x86/boot/bzImage", target / f"boot/vmlinuz-{release}")
    modules = target / f"usr/lib/modules/{release}"
    (modules / "kernel").mkdir(parents=True)
    (modules / "modules.dep").touch()
    headers = target / f"usr/src/linux-headers-{release}"
    for part in (*_KEPT, *(f"arch/x86/{part}" for part in _KEPT_OF_ARCH)):
        if (tree / part).exists():
            (headers / part).parent.mkdir(parents=True, exist_ok=True)
            (tree / part).rename(headers / part)
