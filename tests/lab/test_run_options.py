"""The options of the command ``run``: cards with their variants and faults, packages, foreign modules, parameters."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from pciedma_lab import chroot, kernels, modules, run_command, run_options
from pciedma_lab.cache import LabError


def test_faults_go_to_the_cards_they_name() -> None:
    cards = run_options.make_cards(["capric", "edu", "capric"], ["capric:stall=h2c*1"])
    assert [(card.name, card.faults) for card in cards] == [("capric", ["stall=h2c*1"])] * 2


@pytest.mark.parametrize("fault", ["capric", "edu:stall", "other:stall", "capric:"])
def test_fault_without_such_a_card_is_refused(fault: str) -> None:
    with pytest.raises(ValueError, match="there is no --card"):
        run_options.make_cards(["capric", "edu"] if fault != "capric" else [], [fault])


def test_variants_go_to_the_cards_they_stand_with() -> None:
    cards = run_options.make_cards(["xdma:4ch", "capric", "xdma", "capric:intx"], ["xdma:stall"])
    assert [(card.name, card.variant, card.faults) for card in cards] == [
        ("xdma", "4ch", ["stall"]), ("capric", None, []), ("xdma", None, ["stall"]), ("capric", "intx", []),
    ]


def test_card_by_a_path_with_colons_may_have_a_variant() -> None:
    with_it, without = run_options.make_cards(["/a:b/loop.py:big", "/a:b/loop.py"], [])
    assert (with_it.source, with_it.variant) == (Path("/a:b/loop.py"), "big")
    assert (without.source, without.variant) == (Path("/a:b/loop.py"), None)


@pytest.mark.parametrize(
    ("card", "faults", "text"),
    [
        ("xdma:green", [], "the variants of xdma are .*4ch"),
        ("xdma:", [], "the variants of xdma are"),
        ("edu:big", [], "edu is QEMU's own"),
        ("unicorn", [], "there is no card unicorn; the cards are .*xdma"),
        (":4ch", [], "there is no card"),
        ("xdma", ["xdma:gremlins"], "the faults are .*stall"),
        ("xdma", ["xdma:stall=sideways"], "it takes both, c2h, h2c"),
    ],
)
def test_card_that_cannot_be_is_refused_before_anything_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], card: str, faults: list[str], text: str
) -> None:
    monkeypatch.setattr(run_command, "prepare", lambda *words, **options: pytest.fail("it has begun"))
    with pytest.raises(ValueError, match=text):
        run_options.make_cards([card], faults)
    with pytest.raises(SystemExit, match="2"):
        run_command.main(["--card", card, *(word for fault in faults for word in ("--fault", fault)), "--", "true"])


def test_run_in_the_project_is_there_in_the_guest() -> None:
    assert run_options.place(chroot.PROJECT) == (None, "/mnt/project")
    assert run_options.place(chroot.PROJECT / "tests/vm") == (None, "/mnt/project/tests/vm")


def test_run_elsewhere_shows_the_guest_that_folder(tmp_path: Path) -> None:
    assert run_options.place(tmp_path) == (tmp_path, "/mnt/work")


def test_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    arguments: argparse.Namespace = run_command._parser().parse_args(["--root", str(tmp_path / "absent"), "true"])
    with pytest.raises(ValueError, match=r"--root .*absent: there is no such folder"):
        run_options.make_machine(arguments)


def test_packages_make_a_system_of_their_own_whatever_their_order() -> None:
    assert chroot.guest([]) is chroot.GUEST
    assert chroot.guest(["kmod"]) is chroot.GUEST
    both = chroot.guest(["fio", "socat", "fio"])
    assert both == chroot.guest(["socat", "fio"])
    assert both.path != chroot.guest(["fio"]).path != chroot.GUEST.path
    assert {*chroot.GUEST.packages, "fio", "socat"} == {*both.packages}


@pytest.mark.parametrize("package", ["", "a,b", "a b", "-y", "./x.deb", "UPPER"])
def test_package_with_no_packages_name_is_refused(package: str) -> None:
    with pytest.raises(LabError, match="cannot be the name"):
        chroot.guest([package])


def made_module(path: Path, release: str = "6.12-test", parameters: tuple[str, ...] = ()) -> Path:
    words = [b"\x7fELF", b"vermagic=" + release.encode() + b" SMP", b"license=GPL", b"parm=size:bytes"]
    words += [b"parmtype=" + name.encode() + b":charp" for name in parameters]
    path.write_bytes(b"\0".join(words) + b"\0")
    return path


def test_parameters_are_sorted_by_module(tmp_path: Path) -> None:
    built = [made_module(tmp_path / "one.ko", parameters=("size", "words")), made_module(tmp_path / "a-b.ko")]
    built.append(made_module(tmp_path / "other-one.ko", parameters=("level",)))
    texts = ["one.size=1G", "one.words=a b", "other_one.level=3", "one.size="]
    assert run_options.sort_parameters(texts, built) == {"one": 'size=1G words="a b" size=', "other_one": "level=3"}
    assert run_options.sort_parameters([], built) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one.size", "it is MODULE.NAME=VALUE"),
        ("size=1", "it is MODULE.NAME=VALUE"),
        ('one.size="1"', "without quotes"),
        ("two.size=1", "no module two is loaded, but one"),
        ("one.sise=1", "the parameters of one are size, level"),
    ],
)
def test_parameter_that_nobody_takes_is_refused(tmp_path: Path, text: str, words: str) -> None:
    built = [made_module(tmp_path / "one.ko", parameters=("size", "level"))]
    with pytest.raises(LabError, match=words):
        run_options.sort_parameters([text], built)


class MadeUp:
    """A kernel."""

    release = "6.12-test"


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where modules are built, by a make that is played."""

    def make(kernel: object, copy: Path, sparse: bool, warns: bool) -> str:
        for source in copy.rglob("*.c"):
            source.with_suffix(".ko").touch()
        (copy / "modules.order").write_text("".join(f"{path.stem}.o\n" for path in sorted(copy.rglob("*.c"))))
        return ""

    monkeypatch.setattr(modules, "BUILD", tmp_path / "build")
    monkeypatch.setattr(kernels, "provide", lambda series: MadeUp())
    monkeypatch.setattr(modules, "_make", make)
    return tmp_path / "build"


def test_folder_is_copied_whole_but_for_products(tmp_path: Path, built: Path) -> None:
    folder = tmp_path / "a driver"
    for name in ("module/Makefile", "module/b.c", "module/deep/a.c", "include/api.h", "version.sh", "firmware.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    for name in ("module/b.ko", "module/b.o", "module/.b.o.cmd", "module/Module.symvers", ".git/config"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("of another kernel")
    (folder / "version.sh").chmod(0o555)
    found = run_options.build_foreign("trixie", [f"{folder}:module"])
    copy = found[0].parent.parent
    assert [path.relative_to(copy) for path in found] == [Path("module/b.ko"), Path("module/deep/a.ko")]
    assert copy.is_relative_to(built)
    assert (copy / "version.sh").stat().st_mode & 0o777 == 0o555
    assert (copy / "include/api.h").read_text() == "include/api.h"
    assert (copy / "firmware.bin").exists()
    assert not (copy / ".git").exists()
    assert (copy / "module/b.ko").read_text() == ""
    (folder / "version.sh").chmod(0o755)
    (folder / "version.sh").write_text("new")
    (folder / "include/api.h").unlink()
    run_options.build_foreign("trixie", [f"{folder}:module"])
    assert (copy / "version.sh").read_text() == "new"
    assert not (copy / "include/api.h").exists()


def test_folders_of_one_name_do_not_share_what_is_built(tmp_path: Path, built: Path) -> None:
    for parent in ("one", "two"):
        (tmp_path / parent / "src").mkdir(parents=True)
        (tmp_path / parent / "src/Kbuild").touch()
        (tmp_path / parent / "src/x.c").touch()
    one, two = run_options.build_foreign("trixie", [str(tmp_path / "one/src"), str(tmp_path / "two/src")])
    assert one.parent != two.parent
    assert one.parent.name not in ("src", "modules")


def test_module_that_was_built_elsewhere_is_taken_if_it_fits_the_kernel(tmp_path: Path, built: Path) -> None:
    made_module(tmp_path / "right.ko")
    (tmp_path / "beside.c").touch()
    found, = run_options.build_foreign("trixie", [str(tmp_path / "right.ko")])
    assert found.is_relative_to(built)
    assert found.read_bytes() == (tmp_path / "right.ko").read_bytes()
    assert not (found.parent / "beside.c").exists()
    made_module(tmp_path / "wrong.ko", "5.4-old")
    with pytest.raises(LabError, match=r"wrong.ko is for 5.4-old, and not for the guest's 6.12-test"):
        run_options.build_foreign("trixie", [str(tmp_path / "wrong.ko")])


@pytest.mark.parametrize(
    ("text", "words"),
    [("absent", "no such folder or file"), ("empty", "neither Kbuild nor Makefile"), ("empty:sub", "neither Kbuild")],
)
def test_module_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: Path, text: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabError, match=words):
        run_options.build_foreign("trixie", [text])
