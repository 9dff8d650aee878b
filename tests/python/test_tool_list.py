"""The command ``pciedma list`` on a made-up machine, and the command line around it."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pciedma import __main__ as command_line
from pciedma import __version__, card
from pciedma.tool import COMMANDS, list_command
from pciedma.uapi import PCIEDMA_SIZE_UNKNOWN

from .made_up_root import BUS_MASTER, MadeUpRoot


@pytest.fixture
def root(tmp_path: Path) -> MadeUpRoot:
    made_up = MadeUpRoot(tmp_path)
    made_up.all_well()
    return made_up


def run(root: MadeUpRoot, *, as_json: bool = False) -> int:
    return list_command.run(argparse.Namespace(json=as_json), root.system())


def test_list_of_a_card_shows_it_and_its_channels_aligned(root: MadeUpRoot, capsys: pytest.CaptureFixture[str]) -> None:
    root.link("/dev/pciedma/by-path/pci-0000:03:00.0", "/dev/pciedma0")
    root.link("/dev/pciedma/by-path/pci-0000:03:00.0-c0", "/dev/pciedma0c0")
    assert run(root) == 0
    name = "/dev/pciedma/by-path/pci-0000:03:00.0"
    assert capsys.readouterr().out.splitlines() == [
        "NODE             KIND     SIZE   ACCESS       PCI ADDRESS   PCI IDS                STATE  STABLE NAME",
        f"/dev/pciedma0    xdma                         0000:03:00.0  10ee:9038 (10ee:0007)  ok     {name}",
        f"/dev/pciedma0c0  memory   4 GiB  read, write                                              {name}-c0",
        "/dev/pciedma0c1  message         write",
    ]


def test_list_shows_a_cards_windows_behind_its_channels(root: MadeUpRoot, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (name, size) in enumerate((("user", 65536), ("bypass", 1 << 20))):
        for attribute, text in (("name", name), ("size", size), ("widths", "1 2 4")):
            root.write(f"/sys/class/pciedma/pciedma0w{number}/{attribute}", f"{text}\n")
    root.link("/dev/pciedma/by-path/pci-0000:03:00.0-user", "/dev/pciedma0w0")
    assert run(root) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[-2:] == [
        ["/dev/pciedma0w0", "user", "64", "KiB", "registers", "/dev/pciedma/by-path/pci-0000:03:00.0-user"],
        ["/dev/pciedma0w1", "bypass", "1", "MiB", "registers"],
    ]
    assert run(root, as_json=True) == 0
    card, = json.loads(capsys.readouterr().out)
    assert card["windows"][1] == {
        "index": 1, "node": "/dev/pciedma0w1", "name": "bypass", "size": 1 << 20, "widths": [1, 2, 4], "link": None,
    }


def test_list_without_a_card_names_doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(MadeUpRoot(tmp_path)) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "pciedma doctor" in captured.err


def test_list_json_without_a_card_is_an_empty_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(MadeUpRoot(tmp_path), as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == []


def test_list_json_has_all_that_sysfs_shows(root: MadeUpRoot, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, as_json=True) == 0
    card, = json.loads(capsys.readouterr().out)
    assert (card["index"], card["node"], card["name"], card["state"]) == (0, "/dev/pciedma0", "xdma", "ok")
    assert (card["pci"]["address"], card["pci"]["vendor"], card["pci"]["device"]) == ("0000:03:00.0", 0x10EE, 0x9038)
    assert card["channels"][0] == {
        "index": 0, "node": "/dev/pciedma0c0", "kind": "memory", "size": 1 << 32, "directions": ["c2h", "h2c"],
        "health": {"c2h": "ok", "h2c": "ok"}, "link": None,
    }


def test_list_shows_no_size_where_the_driver_does_not_know_it(
    root: MadeUpRoot, capsys: pytest.CaptureFixture[str]
) -> None:
    root.write("/sys/class/pciedma/pciedma0c0/size", f"{PCIEDMA_SIZE_UNKNOWN}\n")
    run(root)
    assert "bytes" not in capsys.readouterr().out
    run(root, as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["channels"][0]["size"] == 0


def test_list_orders_cards_and_channels_by_number(root: MadeUpRoot, capsys: pytest.CaptureFixture[str]) -> None:
    for index in (10, 2):
        root.device(f"0000:{index:02x}:00.0", "10ee:9038", driver="pciedma_xdma")
        root.card(index, f"0000:{index:02x}:00.0")
    root.write("/sys/class/pciedma/pciedma0c10/kind", "stream\n")
    run(root)
    nodes = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert nodes == [
        "/dev/pciedma0", "/dev/pciedma0c0", "/dev/pciedma0c1", "/dev/pciedma0c10", "/dev/pciedma2", "/dev/pciedma2c0",
        "/dev/pciedma2c1", "/dev/pciedma10", "/dev/pciedma10c0", "/dev/pciedma10c1",
    ]


@pytest.mark.parametrize(
    ("config", "quarantined", "shown"),
    [
        (BUS_MASTER, 0, "ok"),
        (BUS_MASTER, 4096, "quarantined, 4 KiB kept"),
        (BUS_MASTER[:4] + b"\x02" + BUS_MASTER[5:], 0, "stopped"),
        (b"\xff" * 64, 12288, "no answer, 12 KiB kept"),
        (b"", 0, "ok"),
    ],
)
def test_list_shows_the_state_that_registers_and_sysfs_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: bytes, quarantined: int, shown: str
) -> None:
    root = MadeUpRoot(tmp_path)
    root.device("0000:03:00.0", "10ee:9038", driver="pciedma_xdma", config=config)
    root.card(quarantined=quarantined)
    assert run(root) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(f"  {shown}")


@pytest.mark.parametrize(("word", "shown"), [("lost", "configuration lost"), ("ok", "ok"), ("unknown", "ok")])
def test_list_shows_a_lost_configuration(
    root: MadeUpRoot, capsys: pytest.CaptureFixture[str], word: str, shown: str
) -> None:
    root.health(configuration=word)
    run(root)
    assert capsys.readouterr().out.splitlines()[1].endswith(f"  {shown}")


def test_list_shows_engines_that_do_not_work(root: MadeUpRoot, capsys: pytest.CaptureFixture[str]) -> None:
    root.health(c2h="failing", h2c="broken")
    run(root)
    shown, both, one = capsys.readouterr().out.splitlines()[1:]
    assert shown.endswith("  ok")
    assert both.endswith("  c2h failing, h2c broken")
    assert one.endswith("  write")
    run(root, as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["channels"][0]["health"] == {"c2h": "failing", "h2c": "broken"}


class FakeCard:
    """A card that is opened in place of a real one."""

    path, info = "/dev/pciedma7", argparse.Namespace(name="xdma", pci_address="0000:03:00.0")

    def __init__(self, error: OSError | None = None) -> None:
        self.error, self.asked = error, list[object]()

    def open(self, which: object) -> FakeCard:
        self.asked.append(which)
        return self

    def __enter__(self) -> FakeCard:
        return self

    def __exit__(self, *_: object) -> None:
        self.asked.append("closed")

    def reset(self) -> None:
        self.asked.append("reset")
        if self.error:
            raise self.error


@pytest.mark.parametrize("word", ["7", "/dev/pciedma7", "03:00.0", "/dev/pciedma/by-path/pci-0000:03:00.0"])
def test_reset_of_a_card_that_works_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    fake = FakeCard()
    monkeypatch.setattr(card, "open", fake.open)
    assert command_line.main(["reset", word]) == 0
    assert fake.asked == [word, "reset", "closed"]
    assert capsys.readouterr().out == "/dev/pciedma7 (xdma, 0000:03:00.0) was reset and works\n"


def test_reset_that_fails_says_where_to_look(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeCard(OSError(errno.EIO, "Input/output error"))
    monkeypatch.setattr(card, "open", fake.open)
    assert command_line.main(["reset", "7"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("pciedma: the reset of /dev/pciedma7 failed: Input/output error; the kernel log")
    assert fake.asked[-1] == "closed"


def test_reset_of_no_card_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["reset", "ff:1f.7"]) == 1
    assert "no pciedma card at ff:1f.7" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["\u0667", "\u096d", "\uff17"])
def test_reset_takes_no_digits_of_other_scripts(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert command_line.main(["reset", word]) == 1
    assert f"no pciedma card {word!r}: it is no number" in capsys.readouterr().err


def test_reset_of_a_window_says_what_it_is(devices: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["reset", str(devices / "pciedma0w0")]) == 1
    assert "a window, not a card" in capsys.readouterr().err


@pytest.mark.parametrize(("size", "shown"), [(0, ""), (1000, "1000 bytes"), (4096, "4 KiB"), (3 << 30, "3 GiB"),
                                             (1 << 52, "4096 TiB")])
def test_size_has_the_largest_unit_without_a_fraction(size: int, shown: str) -> None:
    assert list_command.size_text(size) == shown


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["list", "--nothing"], ["doctor", "--device", "3"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(arguments)
    assert caught.value.code == 2
    assert "usage: pciedma" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_tells_the_exit_status(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main([command, "--help"])
    assert caught.value.code == 0
    assert "Exit status: 0: " in capsys.readouterr().out


def _python(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(command_line.__file__).parents[1])}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *arguments], env=environment, stdout=pipe, stderr=pipe, text=True)


def test_version_as_a_module_is_the_packages() -> None:
    with _python("-m", "pciedma", "--version") as process:
        assert process.communicate()[0] == f"pciedma {__version__}\n"
    assert process.returncode == 0


_LIST_OF_A_ROOT = """
import sys
from pathlib import Path
from pciedma.__main__ import main
from pciedma.tool import list_command, system
list_command.System = lambda: system.System(root=Path(sys.argv[1]))
sys.exit(main(["list"]))
"""


def test_output_that_nobody_reads_is_no_crash(root: MadeUpRoot) -> None:
    with _python("-c", _LIST_OF_A_ROOT, str(root.folder)) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_output_that_the_terminal_cannot_show_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def speak(arguments: argparse.Namespace) -> int:
        print("expected \u2018;\u2019")
        return 0

    shown = io.BytesIO()
    monkeypatch.setattr(list_command, "run", speak)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "latin-1"))
    assert command_line.main(["list"]) == 0
    assert shown.getvalue() == b"expected ?;?\n"


def test_a_failing_command_says_why_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: argparse.Namespace) -> int:
        raise FileNotFoundError(2, "gone", "/sys/class/pciedma/pciedma0/card")

    monkeypatch.setattr(list_command, "run", fail)
    assert command_line.main(["list"]) == 1
    assert capsys.readouterr().err == "pciedma: [Errno 2] gone: '/sys/class/pciedma/pciedma0/card'\n"
