"""The command ``deb``: the Debian packages, built twice and compared, one set for each distribution."""

from __future__ import annotations

import argparse
import hashlib
import re
import shlex
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from pciedma import __version__

from . import cache, chroot
from .cache import LabError
from .chroot import PACKAGERS, PROJECT

#: The number by which a distribution's packages are older than the next one's, so that an upgrade replaces them.
RELEASES = {"bookworm": 12, "trixie": 13}
DIST = PROJECT / "dist"
_BUILD = PROJECT / "build/deb"
_GIT = ("git", "-c", "safe.directory=*")
#: What must not matter to the packages: where and when the builder lives, what it speaks, and its habits.
_ANOTHER_BUILDER = (
    "env", "TZ=Pacific/Chatham", "LC_ALL=C", "DEB_BUILD_OPTIONS=parallel=1", "HOME=/nonexistent",
    "sh", "-c", 'umask 002; exec "$@"', "sh",
)
#: What describes the build, and so is not the same twice.
_OF_THE_BUILD = (".buildinfo", ".changes")


def main(argv: list[str]) -> int:
    """Build, compare, check and print; returns 1 if a build failed, differed or was complained of."""
    epilog = "Packaged is the last commit: what is not committed is left out, with a warning."
    parser = argparse.ArgumentParser(prog="pciedma_lab deb", description=__doc__, epilog=epilog)
    parser.add_argument("--suite", action="append", choices=list(RELEASES), help="default: all")
    suites = parser.parse_args(argv).suite or list(RELEASES)
    try:
        with undisturbed():
            _warn_of_changes(suites[0])
            return max([make(suite) for suite in suites])
    except LabError as error:
        print(f"pciedma_lab: {error}", file=sys.stderr)
        return 1


def undisturbed() -> AbstractContextManager[None]:
    """Let no other command make packages: tests install them one after the other."""
    return cache.locked(_BUILD / "lock")


def _warn_of_changes(suite: str) -> None:
    """Say so if the project is not as its last commit, which is what will be packaged."""
    status = PACKAGERS[suite].run([*_GIT, "status", "--porcelain"]).splitlines()
    if status:
        cache.say(f"warning: the packages are of the last commit, without what changed since: {len(status)} files")


def make(suite: str) -> int:
    """Make the packages for one distribution in ``dist/``; returns 1 if two builds differ or lintian complains."""
    with _locked(suite):
        return _make(suite)


def _locked(suite: str) -> AbstractContextManager[None]:
    return cache.locked(_BUILD / f"{suite}.lock")


def _make(suite: str) -> int:
    first, second = _build(suite, "first"), _build(suite, "second/by/another/path", around=_ANOTHER_BUILDER)
    target = DIST / suite
    cache.remove(target)
    target.parent.mkdir(exist_ok=True)
    first.rename(target)
    names = sorted({path.name for folder in (target, second) for path in folder.iterdir()})
    same = [_compare(target / name, second / name) for name in names if not name.endswith(_OF_THE_BUILD)]
    _index(suite, target)
    return max(_lintian(suite, target), 0 if all(same) else 1)


def _compare(path: Path, other: Path) -> bool:
    """Print a file's hash, and return whether the other build made the same file."""
    values = {_hash(each) if each.exists() else "not there" for each in (path, other)}
    same = len(values) == 1
    print(f"{values.pop()} {'twice  ' if same else 'DIFFERS'} {path.relative_to(DIST)}", flush=True)
    return same


def _index(suite: str, target: Path) -> None:
    """Make the folder a repository that apt can use: ``deb [trusted=yes] file:FOLDER ./``."""
    (target / "Packages").write_text(PACKAGERS[suite].run(["dpkg-scanpackages", "--multiversion", "."], cwd=target))


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_version(suite: str, version: str) -> Path:
    """Return a repository with the same packages by another *version*, as if it were the next one: to test upgrades."""
    with _locked(suite):
        out = _build(suite, f"version-{version}", version)
        _index(suite, out)
    return out


def _build(suite: str, folder: str, version: str = __version__, around: tuple[str, ...] = ()) -> Path:
    """Build the packages once and return the folder with them; without their source if the version is another one.

    *around* is the beginning of the command line that builds.
    """
    top = _BUILD / suite / folder
    cache.remove(top)
    tree = top / "tree/pciedma"
    out = top / "out"
    out.mkdir(parents=True)
    _export(suite, tree)
    _name_release(tree / "debian/changelog", suite)
    options = ["-us", "-uc"]
    if version != __version__:
        for name in ("debian/changelog", "python/pciedma/__init__.py"):
            _replace_once(tree / name, __version__, version)
        options.append("-b")
    with cache.step(f"building the packages for {suite}"):
        PACKAGERS[suite].run([*around, "dpkg-buildpackage", *options], cwd=tree)
    for path in tree.parent.glob("pciedma*[_.]*.*"):
        path.rename(out / path.name)
    for path in tree.parent.glob("*.deb"):
        path.rename(out / path.name)
    return out


def _export(suite: str, tree: Path) -> None:
    """Unpack the last commit, and put beside it what upstream would publish: all but debian/."""
    tree.mkdir(parents=True)
    archive = shlex.join([*_GIT, "archive", "--format=tar", "HEAD"])
    tarball = tree.with_name(f"pciedma_{__version__}.orig.tar.xz")
    script = f"{archive} --prefix=pciedma-{__version__}/ -- . ':!debian' | xz -T1 > {shlex.quote(str(tarball))}"
    script += f"; {archive} | tar -x -C {shlex.quote(str(tree))}"
    PACKAGERS[suite].run(["bash", "-o", "pipefail", "-ec", script])


def _replace_once(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


def _name_release(changelog: Path, suite: str) -> None:
    """Give the packages a version of their own for the distribution."""
    text = changelog.read_text()
    version = rf"\1~deb{RELEASES[suite]}u1"
    changelog.write_text(re.sub(r"(?<=^pciedma \()([^)]*)", version, text, count=1))


def _lintian(suite: str, target: Path) -> int:
    """Run lintian over what was built, and return its exit status."""
    changes = [str(path) for path in target.glob("*.changes")]
    words = ["lintian", "--info", "--display-info", "--fail-on=error,warning", *changes]
    command = PACKAGERS[suite].command(words, target, own_tmp=True)  # in which it leaves files
    return subprocess.run(command, env=chroot.environment(), check=False).returncode
