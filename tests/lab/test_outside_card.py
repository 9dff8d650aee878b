"""A back end outside the tree, built against what pciedma-dkms installs for it; tests/install installs both."""

from __future__ import annotations

import re
import subprocess

import pytest

from pciedma_lab import kernels, modules
from pciedma_lab.chroot import PROJECT

#: Where the package and DKMS have the headers, the file to include, and the symbols.
INSTALL = r"""
set -e
exec 2>&1
cp -r {project}/examples/card /root/mycard; cd /root/mycard
mkdir -p /usr/share/pciedma {symbols}
cp {project}/dkms/back-end.mk /usr/share/pciedma/; ln -s {project}/src/include /usr/share/pciedma/include
cp {built} {symbols}/Module.symvers
build() {{ make -s -C {headers} M=$PWD {options} CONFIG_DEBUG_INFO_BTF_MODULES= "$@"; }}
"""


def run(series: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script where the driver is installed for a kernel; ``build`` is make for the example, outside the tree."""
    modules.build(series)
    kernel = kernels.provide(series)
    head = INSTALL.format(
        project=PROJECT,
        symbols=f"/var/lib/dkms/pciedma/kernel-{kernel.release}-x86_64/module",
        built=modules.BUILD / series / "src/Module.symvers",
        headers=kernel.headers,
        options=" ".join(kernel.series.make_options),
    )
    return kernel.series.builder.run_scratch(head + script)


@pytest.mark.parametrize("series", ["bookworm", "trixie", "backports"])
def test_back_end_is_built_with_what_is_installed(series: str) -> None:
    result = run(series, "build modules; echo depends $(modinfo -F depends pciedma_loop.ko); build clean; ls")
    assert result.returncode == 0, result.stdout
    said, rest = result.stdout.split("depends ")
    assert modules.warnings(said) == []
    depends, *left = rest.splitlines()
    assert depends == "pciedma"
    assert sorted(left) == sorted(path.name for path in (PROJECT / "examples/card").iterdir() if path.name[0] != "_")


def test_build_without_the_driver_says_what_is_missing_and_cleans() -> None:
    result = run("trixie", "rm -r /var/lib/dkms; build clean; echo cleaned; build modules || echo failed")
    cleaned, failed = result.stdout.split("cleaned\n")
    assert cleaned == ""
    missing = r"\*\*\* pciedma-dkms has installed no modules for kernel \S+-amd64: there is no /var/lib/dkms/pciedma/"
    assert re.search(missing, failed)
    assert failed.endswith("failed\n")
