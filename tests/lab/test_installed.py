"""What `pip install .` installs, and the lab as it is then: without a clone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pciedma
from pciedma_lab import __main__ as command_line

from ..installation import PROJECT, Installation, install


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(tmp_path_factory.mktemp("installed"))


def files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)) for path in found}


def test_install_has_all_of_the_packages_and_the_driver_and_no_more(installed: Installation) -> None:
    """Products of builds, which lie in the tree that it was installed from, are left out."""
    source = (path for path in files(PROJECT / "src") if re.search(r"(?<!\.mod)\.[ch]$|Kbuild$", path))
    wanted = {f"pciedma_lab/driver/{path}" for path in source}
    wanted |= {path for path in files(PROJECT / "python") if ".egg-info" not in path}
    info = f"pciedma-{pciedma.__version__}.dist-info/"
    assert {path for path in files(installed.packages) if not path.startswith(info)} == wanted
    assert {"pciedma/py.typed", "pciedma_lab/py.typed", "pciedma_lab/debug-kernel.config"} < wanted


def test_install_says_what_it_is(installed: Installation) -> None:
    metadata = next(installed.packages.glob("*.dist-info/METADATA")).read_text()
    head, _, body = metadata.partition("\n\n")
    assert re.search(rf"^Version: {re.escape(pciedma.__version__)}$", head, re.M)
    assert re.search(r"^License: MIT AND GPL-2.0-only$", head, re.M)
    assert "Requires-Dist" not in head
    assert body == (PROJECT / "README.md").read_text()


def test_tool_is_there_and_has_the_version(installed: Installation) -> None:
    result = installed.run("pciedma", "--version")
    assert (result.returncode, result.stdout) == (0, f"pciedma {pciedma.__version__}\n")


def test_lab_is_there_and_lists_what_works_without_a_clone(installed: Installation) -> None:
    result = installed.run("pciedma-lab", "--help")
    listed = re.findall(r"^  (\w+) ", result.stderr, re.M)
    assert result.returncode == 0
    assert listed == [name for name in command_line.COMMANDS if name not in command_line.IN_A_CLONE]
    assert {"run", "card", "demo"} <= {*listed}


@pytest.mark.parametrize("command", command_line.IN_A_CLONE)
def test_command_that_needs_a_clone_says_so(installed: Installation, command: str) -> None:
    result = installed.run("pciedma-lab", command, "--help")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"pciedma_lab: {command} needs a clone of the project; this lab is installed\n"


def test_lab_knows_its_source_and_keeps_what_it_makes_in_the_cache(installed: Installation) -> None:
    script = "from pciedma_lab import cache, modules, project as p; print(p.CLONE, p.SOURCE, p.FOLDER, cache.root())"
    clone, source, folder, cache = installed.run("python", "-c", script).stdout.split()
    assert clone == "None"
    assert (Path(source) / "Kbuild").is_file()
    assert Path(source).is_relative_to(installed.packages)
    assert Path(folder).parent == Path(cache)
