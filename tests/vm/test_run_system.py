"""What a machine of the command ``run`` can be made of: variants, parameters, packages, another root, other drivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from pciedma_lab import chroot
from pciedma_lab.run_command import LAB_FAILED

from .test_run import run

#: About the machine itself: not again on the debug kernel, nor for each kernel.
pytestmark = [pytest.mark.stock_kernel, pytest.mark.fixed_kernel]

_MODULE = """\
#include <linux/module.h>
#include "words.h"

static char *who = "nobody";
module_param(who, charp, 0444);

static int __init foreign_init(void)
{
	pr_info(WORDS " %s\\n", who);
	return foreign_number() == 5 ? 0 : -EINVAL;
}

static void __exit foreign_exit(void)
{
}

module_init(foreign_init);
module_exit(foreign_exit);
MODULE_DESCRIPTION("Depends on another module, and on one of the kernel's");
MODULE_LICENSE("GPL");
"""
_OTHER = """\
#include <linux/module.h>
#include <linux/uio_driver.h>
#include "words.h"

int foreign_number(void)
{
	struct uio_info info = { .priv = NULL };

	uio_unregister_device(&info); /* of the kernel's module uio; does nothing here */
	return 5;
}
EXPORT_SYMBOL_GPL(foreign_number);
MODULE_DESCRIPTION("What the other one depends on");
MODULE_LICENSE("GPL");
"""


def make_driver(folder: Path) -> None:
    """Write a driver of two modules, of which the first depends on the second, with a header in a folder beside."""
    files = {
        "kernel/Makefile": "obj-m := a_foreign.o z_foreign.o\nccflags-y := -I$(src)/../include\n",
        "kernel/a_foreign.c": _MODULE,
        "kernel/z_foreign.c": _OTHER,
        "include/words.h": '#define WORDS "good morning,"\nint foreign_number(void);\n',
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_run_has_variants_parameters_packages_and_other_drivers(tmp_path: Path) -> None:
    """One machine for all of it."""
    make_driver(tmp_path / "driver")
    script = """
        hello -t
        for card in /sys/class/pciedma/*/card; do ls ${card%/card} | grep -c 'pciedma[0-9]*c[0-9]*$'; done
        python3 -c 'import os; print(os.lseek(os.open("/dev/pciedma0c0", os.O_RDWR), 0, os.SEEK_END))'
        dmesg | grep -o 'good morning, .*'
        modprobe vfio-pci && grep -o '^vfio_pci ' /proc/modules
    """
    result = run(
        "--card", "xdma:4ch", "--parameter", "pciedma_xdma.memory_size=1M", "--with", "hello",
        "--module", "driver:kernel", "--parameter", "a_foreign.who=Ada and Bob", "--", "sh", "-ec", script,
        cwd=tmp_path,
    )
    assert (result.returncode, result.stdout.decode().split("\n")) == (
        0, ["hello, world", "4", "1048576", "good morning, Ada and Bob", "vfio_pci ", ""]
    ), result.stderr.decode()


def test_run_in_a_root_without_our_modules_runs_unmodified_programs(tmp_path: Path) -> None:
    """Of Debian 12 in a guest of Debian 13: nothing of theirs is changed, and what they write is gone afterwards."""
    root = chroot.BUILDERS["bookworm"].provide()
    before = {*root.iterdir(), *(root / "mnt").iterdir()}
    (tmp_path / "words").write_text("of the user's\n")
    script = """
        cut -c 1-2 /etc/debian_version; pwd; cat words; ls /sys/class/pciedma 2> /dev/null | wc -l
        echo x > /etc/new; cat /etc/new; ls /dev/null /proc/self/fd/0 > /dev/null
        modprobe vfio-pci && ls -d /sys/module/vfio_pci; ls /mnt/project/python | grep -x pciedma
    """
    result = run("--no-modules", "--card", "capric", "--root", str(root), "--", "sh", "-ec", script, cwd=tmp_path)
    assert (result.returncode, result.stdout.decode().split("\n")) == (
        0, ["12", "/mnt/work", "of the user's", "0", "x", "/sys/module/vfio_pci", "pciedma", ""]
    ), result.stderr.decode()
    assert {*root.iterdir(), *(root / "mnt").iterdir()} == before
    assert not (root / "etc/new").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--with", "no-such-package-anywhere"], "no-such-package-anywhere"),
        (["--parameter", "pciedma_xdma.sise=1"], "the parameters of pciedma_xdma are"),
        (["--no-modules", "--parameter", "pciedma_xdma.memory_size=1"], "no module pciedma_xdma is loaded, but none"),
        (["--module", "/etc/hostname"], "is for no kernel"),
    ],
)
def test_run_that_cannot_be_made_says_why(tmp_path: Path, words: list[str], text: str) -> None:
    result = run(*words, "--", "true", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (LAB_FAILED, b"")
    assert text in result.stderr.decode()
    assert "Traceback" not in result.stderr.decode()
