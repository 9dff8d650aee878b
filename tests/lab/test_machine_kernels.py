"""The kernels: which packages make one, and when the archive is asked."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pciedma_lab import cache, kernels
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


def test_provide_cached_and_not_due_does_not_ask(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = remember(folder, 1000)
    monkeypatch.setattr(kernels, "_newest", lambda series: pytest.fail("asked the archive"))
    assert kernels.provide("trixie").folder == kernel


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
