"""The kernels: which packages make one, and when the archive is asked."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path

import pytest

from pciedma_lab import cache, chroot, kernels
from pciedma_lab.cache import LabError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache.root().mkdir()
    return cache.root()


def remember(folder: Path, check_in: float) -> Path:
    """Let the cache have a kernel, and the archive be due in *check_in* seconds."""
    kernel = folder / "kernel-trixie-6.12.1-1"
    kernel.mkdir()
    note = {"folder": kernel.name, "check_at": time.time() + check_in}
    (folder / "kernel-trixie.json").write_text(json.dumps(note))
    return kernel


def unreachable(series: kernels.Series) -> Path:
    raise LabError("no route to host")


def test_parse_uris_takes_kernel_packages_with_versions() -> None:
    text = """\
'http://m.example/pool/main/k/kmod/kmod_34.2-2_amd64.deb' kmod_34.2-2_amd64.deb 1 SHA256:0
'http://m/linux-binary-7.2_7.2.1-1%7ebpo13%2b1_amd64.deb' linux-binary-7.2_7.2.1-1~bpo13+1_amd64.deb 9 SHA256:0
'http://m.example/pool/l/linux/linux-base_4.12_all.deb' linux-base_4.12_all.deb 1 SHA256:0
'http://m.example/pool/l/linux/linux-base-7.2_7.2.1-1_all.deb' linux-base-7.2_7.2.1-1_all.deb 1 SHA256:0
'http://m.example/pool/l/linux/linux-image-amd64_1%3a7.2_amd64.deb' linux-image-amd64_1%3a7.2_amd64.deb 1 SHA256:0
"""
    assert kernels.parse_uris(text) == [
        ("linux-binary-7.2", "7.2.1-1~bpo13+1"),
        ("linux-base-7.2", "7.2.1-1"),
        ("linux-image-amd64", "1:7.2"),
    ]


def test_parse_uris_names_the_architecture_of_foreign_packages() -> None:
    text = """\
'http://m.example/linux-kbuild-6.1_6.1.9-1_amd64.deb' linux-kbuild-6.1_6.1.9-1_amd64.deb 1 SHA256:0
'http://m.example/linux-headers-6.1-common_6.1.9-1_all.deb' linux-headers-6.1-common_6.1.9-1_all.deb 1 SHA256:0
'http://m.example/linux-headers-arm64_6.1.9-1_arm64.deb' linux-headers-arm64_6.1.9-1_arm64.deb 1 SHA256:0
"""
    assert kernels.parse_uris(text) == [
        ("linux-kbuild-6.1", "6.1.9-1"),
        ("linux-headers-6.1-common", "6.1.9-1"),
        ("linux-headers-arm64:arm64", "6.1.9-1"),
    ]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is run in a builder; apt answers with a kernel, headers and what those build with."""
    commands: list[str] = []

    def run(self: chroot.Chroot, argv: list[str], cwd: Path | None = None) -> str:
        commands.append(shlex.join(argv))
        names = ("linux-image-1-arm64_1_arm64", "linux-kbuild-1_1_amd64", "linux-headers-arm64_1_arm64")
        return "".join(f"'http://m.example/{name}.deb' {name}.deb 1 SHA256:0\n" for name in names)

    monkeypatch.setattr(chroot.Chroot, "run", run)
    return commands


def test_list_of_another_architecture_is_what_compiling_needs(asked: list[str]) -> None:
    assert kernels._list(kernels.SERIES["backports-arm64"]) == [
        ("linux-kbuild-1", "1"),
        ("linux-headers-arm64:arm64", "1"),
    ]
    assert all("APT::Architectures::=arm64" in command for command in asked)
    assert asked[-1].endswith(" -t trixie-backports linux-headers-arm64:arm64")


def test_list_of_the_newest_leaves_the_choice_between_sid_and_experimental_to_apt(asked: list[str]) -> None:
    kernels._list(kernels.SERIES["newest"])
    assert asked[-1].endswith(" --reinstall linux-image-amd64 linux-headers-amd64")


def test_find_kernel_of_another_architecture_is_not_to_boot() -> None:
    assert kernels.find("trixie-arm64").name == "trixie-arm64"
    with pytest.raises(LabError, match="trixie-arm64 is a kernel for arm64"):
        kernels.find("trixie-arm64", to_boot=True)


def test_kernel_of_another_architecture_has_headers_alone(folder: Path) -> None:
    kernel = kernels.Kernel(kernels.SERIES["bookworm-arm64"], folder / "kernel-bookworm-arm64-6.1.9-1")
    for name in ("6.1.0-9-common", "6.1.0-9-arm64"):
        (kernel.folder / "usr/src" / f"linux-headers-{name}").mkdir(parents=True)
    assert (kernel.release, kernel.version) == ("6.1.0-9-arm64", "6.1.9-1")
    assert kernel.headers.name == "linux-headers-6.1.0-9-arm64"


def test_provide_cached_and_not_due_does_not_ask(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = remember(folder, 1000)
    monkeypatch.setattr(kernels, "_newest", lambda series: pytest.fail("asked the archive"))
    assert kernels.provide("trixie").folder == kernel


def test_known_is_what_was_provided_last_and_the_archive_is_not_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kernels.known("trixie") is None
    kernel = remember(folder, -1)
    monkeypatch.setattr(kernels, "_newest", lambda series: pytest.fail("asked the archive"))
    found = kernels.known("trixie")
    assert found is not None
    assert (found.folder, found.version) == (kernel, "6.12.1-1")


def test_provide_due_takes_the_newest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(folder, -1)
    newest = folder / "kernel-trixie-6.12.2-1"
    newest.mkdir()
    monkeypatch.setattr(kernels, "_newest", lambda series: newest)
    assert kernels.provide("trixie").folder == newest
    monkeypatch.setattr(kernels, "_newest", lambda series: pytest.fail("asked the archive again"))
    assert kernels.provide("trixie").folder == newest


def test_provide_due_and_archive_unreachable_goes_on_with_the_cached(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = remember(folder, -1)
    monkeypatch.setattr(kernels, "_newest", unreachable)
    assert kernels.provide("trixie").folder == kernel
    assert "no route to host" in capsys.readouterr().err


def test_provide_with_nothing_cached_and_archive_unreachable_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_newest", unreachable)
    with pytest.raises(LabError, match="no route"):
        kernels.provide("trixie")


def test_provide_debug_kernel_of_another_configuration_will_not_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "kernel-debug-6.12.1-1-0123456789ab").mkdir()
    note = {"folder": "kernel-debug-6.12.1-1-0123456789ab", "check_at": time.time() + 1000}
    (folder / "kernel-debug.json").write_text(json.dumps(note))
    monkeypatch.setattr(kernels, "_newest", unreachable)
    with pytest.raises(LabError, match="no route"):
        kernels.provide("debug")


def test_provide_unknown_series_names_the_known_ones() -> None:
    with pytest.raises(LabError, match="bookworm, trixie"):
        kernels.provide("potato")


@pytest.mark.parametrize(
    ("image", "modules"),
    [("boot/vmlinuz-6.1", "usr/lib/modules/6.1/kernel"), ("usr/lib/modules/6.1/vmlinuz", "usr/lib/modules/6.1/kernel")],
)
def test_kernel_finds_its_parts_in_both_layouts(folder: Path, image: str, modules: str) -> None:
    for path in (image, f"{modules}/drivers/x.ko"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    kernel = kernels.Kernel(kernels.SERIES["bookworm"], folder)
    assert (kernel.release, kernel.image) == ("6.1", folder / image)
    assert kernel.headers == folder / "usr/src/linux-headers-6.1"
