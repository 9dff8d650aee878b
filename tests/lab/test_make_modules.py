"""`make modules KDIR=...`: the modules for any kernel tree, with a compiler and make alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pciedma
from pciedma_lab import kernels
from pciedma_lab.chroot import PROJECT

from .. import driver
from .test_installed import files


def test_modules_for_a_kernel_tree_are_built_beside_their_source(tmp_path: Path) -> None:
    """Without DKMS, without the lab, and where no Python is."""
    kernel = kernels.provide("trixie")
    shutil.copy2(PROJECT / "Makefile", tmp_path)
    for name in ("src", "python/pciedma"):
        products = shutil.ignore_patterns("*.ko", "*.o", "*.mod*", ".*.cmd", "Module.symvers", "modules.order")
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=products)
    for source in (PROJECT / "examples/card").glob("*.[ch]"):  # a new card's
        shutil.copy2(source, tmp_path / "src/cards")
    run = kernel.series.builder.run
    assert run(["sh", "-c", "command -v python3 mmdebstrap || echo none"]) == "none\n"
    run(["make", "-s", "modules", f"KDIR={kernel.headers}", "CONFIG_DEBUG_INFO_BTF_MODULES="], cwd=tmp_path)
    built = {path for path in files(tmp_path / "src") if path.endswith(".ko")}
    assert built == {f"{name}.ko" for name in (*driver.modules(), "pciedma_loop")}
    for name in built:
        assert run(["modinfo", "-F", "vermagic", name], cwd=tmp_path / "src").startswith(f"{kernel.release} ")
    assert run(["modinfo", "-F", "version", "pciedma.ko"], cwd=tmp_path / "src") == f"{pciedma.__version__}\n"
