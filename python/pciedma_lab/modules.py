"""The driver's modules, built for a kernel in its distribution's chroot."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from . import cache, kernels
from .chroot import PROJECT

BUILD = PROJECT / "build"


class BuildFailed(Exception):
    """The compiler refused, or warned where warnings are errors."""


def built(series: str) -> Path:
    """Return the folder of the modules built for a kernel series."""
    return BUILD / series / "modules"


def build(series: str, *, warnings_are_errors: bool = False, sparse: bool = False) -> Path:
    """Build the modules for a kernel series and return their folder.

    Only what has changed is compiled again, unless *sparse* or *warnings_are_errors* asks for all of it.
    Raises BuildFailed with the compiler's output.
    """
    kernel = kernels.provide(series)
    copy = BUILD / series / "src"
    if sparse or warnings_are_errors:
        cache.remove(copy)
    _mirror(PROJECT / "src", copy)
    command = ["make", "-s", "-C", str(kernel.headers), f"M={copy}", f"-j{os.cpu_count()}", "W=1"]
    command.append("CONFIG_DEBUG_INFO_BTF_MODULES=")  # needs tools and the kernel's own image, for nothing here
    if sparse:
        # guard() releases locks where sparse does not look for it
        command += ["C=1", "CHECK=sparse -Wno-context"]
    result = subprocess.run(
        kernel.series.builder.command([*command, "modules"]), capture_output=True, text=True, check=False
    )
    output = result.stdout + result.stderr
    if result.returncode or (warnings_are_errors and _warnings(output)):
        raise BuildFailed(f"building the modules for {series} ({kernel.release}):\n{output}")
    target = built(series)
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.ko"):
        old.unlink()
    for module in copy.glob("*.ko"):
        shutil.copy2(module, target)
    return target


def _warnings(output: str) -> list[str]:
    """Return the lines that say something about our sources, not about the build's surroundings."""
    harmless = ("BTF generation", "compiler differs", "The kernel was built by", "You are using")
    return [line for line in output.splitlines() if line.strip() and not any(word in line for word in harmless)]


def _mirror(source: Path, target: Path) -> None:
    """Make *target* have the files of *source*; products of the build beside them stay."""
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    for path in [*target.rglob("*.[ch]")]:
        relative = path.relative_to(target)
        if relative not in wanted and not path.name.endswith(".mod.c"):
            path.unlink()
    for relative in wanted:
        old, new = source / relative, target / relative
        if not new.exists() or new.stat().st_mtime_ns != old.stat().st_mtime_ns:
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(old, new)
