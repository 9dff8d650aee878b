"""The driver's modules, built for a kernel in its distribution's chroot."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from . import cache, kernels
from .chroot import PROJECT, environment

BUILD = PROJECT / "build"

#: What a kernel says about the surroundings of a build, not about our sources.
_HARMLESS = ("BTF generation", "compiler differs", "pahole version differs", "The kernel was built ", "You are using")


class BuildFailed(cache.LabError):
    """The compiler refused, or warned where warnings are errors; the text is what it said."""


def built(series: str) -> Path:
    """Return the folder of the modules built for a kernel series."""
    return BUILD / series / "modules"


def build(series: str, *, warnings_are_errors: bool = False, sparse: bool = False) -> Path:
    """Build the modules for a kernel series and return their folder.

    Only what has changed is compiled again, unless *sparse* or *warnings_are_errors* asks for all of it: then
    the work is done in a folder beside. Threads and processes that build for the same series wait for each
    other. Raises BuildFailed with the compiler's output, LabError if the kernel cannot be had.
    """
    kernel = kernels.provide(series)
    checked = sparse or warnings_are_errors
    copy = BUILD / series / ("checked" if checked else "src")
    with cache.locked(BUILD / series / "lock"):
        if checked:
            cache.remove(copy)
        mirror(PROJECT / "src", copy)
        output = _make(kernel, copy, sparse)
        if warnings_are_errors and warnings(output):
            raise BuildFailed(f"the modules for {series} ({kernel.release}) have warnings:\n{output}")
        _publish(copy, built(series))
    return built(series)


def build_folder(series: str, source: Path) -> Path:
    """Build other modules than the driver's, from the folder *source*, and return the folder with them."""
    copy = BUILD / series / source.name
    with cache.locked(BUILD / series / "lock"):
        mirror(source, copy)
        _make(kernels.provide(series), copy, sparse=False)
    return copy


def _make(kernel: kernels.Kernel, copy: Path, sparse: bool) -> str:
    """Run make and return what it said."""
    command = ["make", "-s", "-C", str(kernel.headers), f"M={copy}", f"-j{os.cpu_count()}", "W=1"]
    command.append("CONFIG_DEBUG_INFO_BTF_MODULES=")  # needs tools and the kernel's own image, for nothing here
    if kernel.series.is_debug:
        command.append("GCOV_PROFILE=y")
    if sparse:
        # guard() releases locks where sparse does not look for it
        command += ["C=1", "CHECK=sparse -Wno-context"]
    result = subprocess.run(
        kernel.series.builder.command([*command, "modules"]),
        text=True,
        check=False,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if sparse and "C=1 specified, but" in result.stdout:
        raise BuildFailed(f"sparse does not understand the kernel {kernel.release}")
    if result.returncode:
        raise BuildFailed(f"building the modules for {kernel.series.name} ({kernel.release}):\n{result.stdout}")
    return result.stdout


def warnings(output: str) -> list[str]:
    """Return the lines of a build's output that say something about our sources."""
    return [line for line in output.splitlines() if line.strip() and not any(word in line for word in _HARMLESS)]


def mirror(source: Path, target: Path) -> None:
    """Make *target* have the files of *source*, times included; products of the build beside them stay."""
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


def _publish(copy: Path, target: Path) -> None:
    """Make *target* have the modules in *copy*, each replaced as a whole: a guest may be loading them."""
    target.mkdir(parents=True, exist_ok=True)
    fresh = {path.name: path for path in copy.glob("*.ko")}
    for name, path in fresh.items():
        temporary = target / f"{name}.new"
        shutil.copy2(path, temporary)
        temporary.rename(target / name)
    for old in target.glob("*.ko"):
        if old.name not in fresh:
            old.unlink()
