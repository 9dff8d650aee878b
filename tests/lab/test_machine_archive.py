"""The archive: the host's mirror, proxy and certificates are found in what apt says."""

from __future__ import annotations

from pathlib import Path

import pytest

from pciedma_lab import archive


def test_mirror_is_debians_own_among_other_repositories() -> None:
    targets = """\
https://example.org/tools ExampleOrg Tools
http://security.example.net/debian-security/ Debian Debian-Security
http://mirror.example.net/debian/ Debian Debian
"""
    assert archive.parse_mirror(targets) == "http://mirror.example.net/debian/"


def test_mirror_without_lists_is_known_by_its_address() -> None:
    targets = "https://example.org/tools/\nhttp://mirror.example.net/debian/\n"
    assert archive.parse_mirror(targets) == "http://mirror.example.net/debian/"


@pytest.mark.parametrize("targets", ["", "file:/media/cdrom/ Debian Debian\n", "http://x.example/ Ubuntu Ubuntu\n"])
def test_mirror_unusable_elsewhere_is_none(targets: str) -> None:
    assert archive.parse_mirror(targets) is None


def test_settings_are_the_proxies_without_the_empty_ones_and_how_old_an_index_may_be() -> None:
    dump = """\
Acquire::http "";
Acquire::http::Proxy "http://proxy.example.net:3142";
Acquire::https::Proxy "";
Acquire::http::Proxy::mirror.example.net "DIRECT";
Acquire::Check-Valid-Until "false";
APT::Architecture "amd64";
"""
    assert archive.parse_settings(dump) == [
        'Acquire::http::Proxy "http://proxy.example.net:3142";',
        'Acquire::http::Proxy::mirror.example.net "DIRECT";',
        'Acquire::Check-Valid-Until "false";',
    ]


def test_certificates_follow_the_environment_if_the_file_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert archive.certificates() is None
    (tmp_path / "ca.pem").write_text("")
    assert archive.certificates() == tmp_path / "ca.pem"
