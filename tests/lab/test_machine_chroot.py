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
    monkeypatch.setattr(archive, "proxy_options", lambda: ['Acquire::http::Proxy "http://proxy.example.net";'])
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


def test_environment_keeps_proxies_and_own_settings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "PCIEDMA_KERNEL", "LD_PRELOAD", "SECRET"):
        monkeypatch.setenv(name, "x")
    environment = chroot.environment()
    assert environment.keys() >= {"https_proxy", "PCIEDMA_KERNEL"}
    assert not environment.keys() & {"LD_PRELOAD", "SECRET"}
