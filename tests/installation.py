"""The project as `pip install .` leaves it, in a virtual environment of its own, for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
_NEEDED = ("LICENSES", "README.md", "pyproject.toml", "python", "setup.cfg", "src")
_IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info")


@dataclass(frozen=True)
class Installation:
    """A virtual environment with the project in it, and the copy of the project that it came from."""

    environment: Path
    tree: Path

    @property
    def packages(self) -> Path:
        """The folder with the packages."""
        return next(self.environment.glob("lib/python3.*/site-packages"))

    def run(self, *argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's programs, which knows nothing of the clone."""
        program, *arguments = argv
        return subprocess.run(
            [self.environment / "bin" / program, *arguments],
            text=True,
            check=False,
            capture_output=True,
            cwd=cwd or self.environment,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )


def install(folder: Path) -> Installation:
    """Install a copy of the project below *folder*, with no network."""
    installation = Installation(folder / "environment", folder / "tree")
    for name in _NEEDED:
        source, target = PROJECT / name, installation.tree / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=_IGNORED)
        else:
            shutil.copy2(source, target)
    for product in ("pciedma.mod.c", "core/main.o", "pciedma.ko"):
        (installation.tree / "src" / product).touch()
    environment = ["venv", "--without-pip", "--system-site-packages", str(installation.environment)]
    subprocess.run([sys.executable, "-m", *environment], check=True)
    options = ["--no-index", "--no-deps", "--no-build-isolation"]
    result = installation.run("python", "-m", "pip", "install", *options, str(installation.tree))
    assert result.returncode == 0, result.stdout + result.stderr
    return installation
