"""The lab as pip installs it, used from a folder that has nothing to do with the clone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pciedma_lab import cache

from ..installation import Installation, install

#: Not again under `make check-debug` and `make check-kernels`: the kernel is the installed lab's default.
pytestmark = [pytest.mark.stock_kernel, pytest.mark.fixed_kernel]

_PROGRAM = """\
import os, sys
import pciedma, of_the_user
with pciedma.open() as card, card.channel(0) as channel:
    channel.write(of_the_user.WORDS)
    print(card.info.name, channel.read(12).decode(), os.getcwd(), pciedma.__file__)
sys.exit(3 if sys.argv[1:] else 0)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The lab, with the cache of this one but for what it builds."""
    installation = install(tmp_path_factory.mktemp("installed"))
    script = "from pciedma_lab import project; print(project.FOLDER)"
    folder = Path(installation.run("python", "-c", script).stdout.strip())
    assert folder.parent == cache.root()
    yield installation
    cache.remove(folder)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A user's folder."""
    (tmp_path / "program.py").write_text(_PROGRAM)
    (tmp_path / "of_the_user.py").write_text("WORDS = b'good morning'\n")
    return tmp_path


def test_run_in_a_users_folder_moves_data_and_has_the_programs_status(installed: Installation, work: Path) -> None:
    result = installed.run("pciedma-lab", "run", "--card", "capric", "--", "python3", "program.py", "x", cwd=work)
    assert (result.returncode, result.stdout) == (
        3, "capric good morning /mnt/work /mnt/project/python/pciedma/__init__.py\n"
    ), result.stderr
    assert sorted(path.name for path in work.iterdir()) == ["of_the_user.py", "program.py"]


def test_demo_moves_checked_data_through_all_cards(installed: Installation, work: Path) -> None:
    sizes = ["--messages", "200", "--transfers", "2", "--mebibytes", "64"]
    result = installed.run("pciedma-lab", "demo", *sizes, "--output", "figures.json", cwd=work)
    assert result.returncode == 0, result.stderr
    figures = json.loads((work / "figures.json").read_text())
    assert figures["capric"]["messages"] == 200
    assert figures["xdma"]["bytes"] == 2 * 64 << 20
