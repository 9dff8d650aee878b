"""How the installed tree is built: what DKMS is told, and by whom, must not depend on root's shell."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pciedma_lab import kernels, modules
from pciedma_lab.chroot import PROJECT

#: Each breaks a build, or sends it elsewhere; a root shell can have any of them, for builds of its own.
HOSTILE = {
    "ARCH": "arm64", "CROSS_COMPILE": "none-", "KCFLAGS": "-Wnonsense -Dinline=nonsense", "KBUILD_OUTPUT": "/nowhere",
    "KBUILD_EXTMOD": "/nowhere", "M": "/nowhere", "O": "/nowhere", "V": "2", "W": "e", "TMPDIR": "/nowhere",
    "MAKEFLAGS": "n -- ARCH=arm64 CC=false", "MAKEFILES": "/nowhere", "CC": "false", "LLVM": "1", "LD": "false",
    "HOSTCC": "false", "CPATH": "/hostile", "C_INCLUDE_PATH": "/hostile", "KDIR": "/nowhere", "LDFLAGS": "--nonsense",
    "KBUILD_MODPOST_WARN": "1", "LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de", "GREP_OPTIONS": "-v",
    "BASH_ENV": "/hostile/rc", "CFLAGS": "-Wnonsense",
}


def hostile(argv: list[str]) -> list[str]:
    """Return a command that is called with these variables."""
    return ["env", *(f"{name}={value}" for name, value in HOSTILE.items()), *argv]


MODULE = """
#include <linux/module.h>
MODULE_LICENSE("GPL");
"""


@pytest.fixture
def tree() -> Iterator[Path]:
    """A tree like the one that the package installs, with a small module."""
    modules.BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dkms-", dir=modules.BUILD) as folder:
        target = Path(folder)
        for name in ("Makefile", "dkms.conf"):
            text = (PROJECT / "dkms" / name).read_text()
            (target / name).write_text(text.replace("#MODULE_VERSION#", "1.2.3"))
        (target / "Kbuild").write_text("obj-m += told.o\n")
        (target / "told.c").write_text(MODULE)
        yield target


#: What DKMS does with its configuration, whose lines are evaluated once more when they are passed on; what it adds at
#: the end is of use here, too, for the chroot has not what BTF needs.
BUILD = """
set -e
cd {tree}; kernelver={release}; kernel_source_dir={headers}
passed=$( . ./dkms.conf >&2; eval echo 'MAKE[0]=\\"${{MAKE[0]}}\\"' )
eval "$passed"
make_command="${{MAKE[0]}} CONFIG_DEBUG_INFO_BTF_MODULES="
eval "{{ ${{make_command/#make/make -j2 KERNELRELEASE=$kernelver}}; }}"
"""


def test_build_does_not_inherit_the_shells_variables(tree: Path) -> None:
    kernel = kernels.provide("trixie")
    script = BUILD.format(tree=tree, release=kernel.release, headers=kernel.headers)
    result = kernel.series.builder.attempt(hostile(["bash", "-c", script]))
    assert result.returncode == 0, result.stdout
    assert (tree / "told.ko").exists()


#: A DKMS that says what it was given. The kernel is one that build-for takes for whole.
CALL = r"""
set -e
mkdir -p /usr/src/pciedma-1.2.3 /lib/modules/6.99.0-told/kernel /lib/modules/6.99.0-told/build/include
touch /usr/src/pciedma-1.2.3/dkms.conf
printf '#!/bin/sh\nenv > /root/given-$1\n' > /usr/local/bin/dkms
sed 's/#MODULE_VERSION#/1.2.3/' {build_for} > /root/build-for
chmod +x /usr/local/bin/dkms /root/build-for
{call} /root/build-for 6.99.0-told > /root/said 2>&1
cat /root/given-install
"""


@pytest.mark.parametrize("kept", [{}, {"DPKG_MAINTSCRIPT_PACKAGE": "linux-image-6.99", "KBUILD_SIGN_PIN": "1 2 $3",
                                       "DEBIAN_FRONTEND": "noninteractive"}])
def test_dkms_gets_none_of_the_shells_variables_but_dpkgs_and_the_keys(kept: dict[str, str]) -> None:
    variables = HOSTILE | kept | {"PCIEDMA_BUILD_FOR": "1"}
    call = shlex.join(["env", "-u", "DEBIAN_FRONTEND", *(f"{name}={value}" for name, value in variables.items())])
    builder = kernels.SERIES["trixie"].builder
    result = builder.run_scratch(CALL.format(build_for=PROJECT / "dkms/build-for", call=call))
    assert result.returncode == 0, result.stdout
    given = dict(line.split("=", 1) for line in result.stdout.splitlines())
    for name in ("PWD", "SHLVL", "_", "OLDPWD", "PCIEDMA_BUILD_FOR"):
        given.pop(name, None)
    assert given.pop("PATH")
    assert given == {"HOME": "/root", "LC_ALL": "C"} | kept
