"""The chroots: their names, how they are made, and how they are entered."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from pciedma_lab import archive, cache, chroot
from pciedma_lab.chroot import Chroot

BARE = Chroot(name="bare", suite="trixie", packages=("make",))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(archive, "mirror", lambda: "http://mirror.example.net/debian")
    monkeypatch.setattr(archive, "settings", lambda: ['Acquire::http::Proxy "http://proxy.example.net";'])
    monkeypatch.setattr(archive, "certificates", lambda: Path("/host/ca.pem"))
    cache.root().mkdir()
    return cache.root()


def hooks(definition: Chroot) -> list[str]:
    command = definition.mmdebstrap(Path("/target"))
    return [word.removeprefix("--customize-hook=") for word in command if word.startswith("--customize-hook=")]


@pytest.mark.parametrize(
    "change",
    [
        {"packages": ("make", "gcc")},
        {"suite": "bookworm"},
        {"backports": ("qemu",)},
        {"pip": ("x",)},
        {"keeps_lists": True},
    ],
)
def test_path_changes_with_each_part_of_the_definition(change: dict[str, object]) -> None:
    assert dataclasses.replace(BARE, **change).path != BARE.path  # type: ignore[arg-type]


def test_mmdebstrap_uses_the_hosts_mirror_and_proxy() -> None:
    command = BARE.mmdebstrap(Path("/target"))
    assert command[-3:] == ["trixie", "/target", "http://mirror.example.net/debian"]
    assert '--aptopt=Acquire::http::Proxy "http://proxy.example.net";' in command
    assert hooks(BARE) == []


def test_mmdebstrap_without_mirror_leaves_it_to_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "mirror", lambda: None)
    assert BARE.mmdebstrap(Path("/target"))[-2:] == ["trixie", "/target"]


def test_mmdebstrap_with_backports_takes_packages_from_there() -> None:
    with_backports = dataclasses.replace(BARE, backports=("qemu-system-x86",))
    assert any("-t trixie-backports qemu-system-x86" in hook for hook in hooks(with_backports))


def test_mmdebstrap_of_sid_takes_kernels_of_experimental_too() -> None:
    sid = dataclasses.replace(BARE, suite="sid", keeps_lists=True)
    sources, preferences = hooks(sid)
    assert "/ experimental main/" in sources
    assert "Package: linux-*" in preferences
    assert "experimental" not in "".join(hooks(dataclasses.replace(sid, suite="trixie")))


def test_path_of_sid_changes_with_the_month(monkeypatch: pytest.MonkeyPatch) -> None:
    rolling = dataclasses.replace(BARE, suite="sid")
    paths = []
    for month in ("2030-01", "2030-02"):
        monkeypatch.setattr("time.strftime", lambda form, month=month: month)
        paths.append((rolling.path, BARE.path))
    assert paths[0][0] != paths[1][0]
    assert paths[0][1] == paths[1][1]


def test_certificates_of_the_host_go_where_certificates_are() -> None:
    with_certificates = dataclasses.replace(BARE, packages=("ca-certificates",))
    assert hooks(with_certificates) == ["upload /host/ca.pem /etc/ssl/certs/ca-certificates.crt"]


def test_provide_without_mmdebstrap_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(cache.LabError, match="apt-get install mmdebstrap"):
        BARE.provide()


def test_command_is_valid_shell_with_awkward_words() -> None:
    BARE.path.mkdir()
    command = BARE.command(["echo", "it's", "$HOME", "a b"], Path("/tmp/with space"))
    script = command[-1]
    subprocess.run(["sh", "-n", "-c", script], check=True)
    assert f"mount --rbind {chroot.PROJECT} {BARE.path}{chroot.PROJECT}" in script
    assert command[:3] == ["setpriv", "--pdeathsig", "KILL"]


@pytest.mark.parametrize(("own_tmp", "mount"), [(False, "--rbind /tmp"), (True, "-t tmpfs tmp")])
def test_command_sees_the_hosts_tmp_unless_it_wants_its_own(own_tmp: bool, mount: str) -> None:
    BARE.path.mkdir()
    script = BARE.command(["true"], own_tmp=own_tmp)[-1]
    assert f"\nmount {mount} {BARE.path}/tmp\n" in script


def test_command_has_the_mounts_that_it_is_given() -> None:
    BARE.path.mkdir()
    script = BARE.command(["true"], mounts={"/mnt/work": Path("/home/a b")})[-1]
    subprocess.run(["sh", "-n", "-c", script], check=True)
    inside = f"{BARE.path}/mnt/work"
    assert f"mkdir -p {inside}; mount --rbind '/home/a b' {inside}\n" in script


def test_environment_keeps_proxies_and_own_settings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "PCIEDMA_KERNEL", "LD_PRELOAD", "SECRET"):
        monkeypatch.setenv(name, "x")
    environment = chroot.environment()
    assert environment.keys() >= {"https_proxy", "PCIEDMA_KERNEL"}
    assert not environment.keys() & {"LD_PRELOAD", "SECRET"}


def test_command_with_scratch_changes_a_copy_of_the_folder() -> None:
    BARE.path.mkdir()
    script = BARE.command(["true"], scratch=Path("/tmp/scratch"))[-1]
    subprocess.run(["sh", "-n", "-c", script], check=True)
    assert f"lowerdir={BARE.path}," in script
    assert "exec chroot /tmp/scratch/root " in script
    assert "mount -t tmpfs tmp /tmp/scratch/root/tmp\n" in script
    assert script.count(str(BARE.path)) == 1


@pytest.mark.parametrize(("namespace", "own"), [([], False), (["unshare", "--map-root-user"], True)])
def test_command_with_scratch_in_a_user_namespace_needs_no_rights_of_roots(
    monkeypatch: pytest.MonkeyPatch, namespace: list[str], own: bool
) -> None:
    monkeypatch.setattr(cache, "user_namespace", lambda: namespace)
    BARE.path.mkdir()
    script = BARE.command(["true"], scratch=Path("/tmp/scratch"))[-1]
    assert ("workdir=/tmp/scratch/work,userxattr overlay " in script) == own


@pytest.mark.parametrize("name", ["a,b", "a:b", "a\\b"])
def test_command_with_scratch_in_a_folder_that_overlays_cannot_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
    BARE.path.mkdir(parents=True)
    with pytest.raises(cache.LabError, match="set XDG_CACHE_HOME"):
        BARE.command(["true"], scratch=Path("/tmp/scratch"))
    assert BARE.command(["true"])


def test_path_changes_with_the_edition_of_the_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    first = BARE.path
    monkeypatch.setattr(chroot, "_EDITION", 2)
    assert BARE.path != first


def test_path_of_sid_alone_changes_with_the_preference_for_experimental(monkeypatch: pytest.MonkeyPatch) -> None:
    rolling = dataclasses.replace(BARE, suite="sid")
    first = rolling.path, BARE.path
    monkeypatch.setattr(chroot, "_KERNELS_OF_EXPERIMENTAL", "Package: linux-image-*\n")
    assert rolling.path != first[0]
    assert BARE.path == first[1]
