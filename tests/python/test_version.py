"""The version: it stands in the binding alone; what cannot read it there is compared."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pciedma

PROJECT = Path(__file__).parents[2]


def test_version_of_the_modules_is_the_bindings() -> None:
    script = re.findall(r"^PCIEDMA_VERSION \?= \$\(shell (.*)\)$", (PROJECT / "src/Kbuild").read_text(), re.M)[0]
    command = script.replace("$(src)", str(PROJECT / "src"))
    assert subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout == (
        f"{pciedma.__version__}\n"
    )


def test_version_of_the_packages_is_the_bindings() -> None:
    changelog = (PROJECT / "debian/changelog").read_text()
    assert re.match(rf"pciedma \({re.escape(pciedma.__version__)}-\d+\) ", changelog)


def test_version_comes_into_dkms_conf_when_the_package_is_built() -> None:
    assert 'PACKAGE_VERSION="#MODULE_VERSION#"\n' in (PROJECT / "dkms/dkms.conf").read_text()
