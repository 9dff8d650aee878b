"""What usual tools do to a channel's node works, or fails with the kernel's own clear word."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pciedma_lab import modules
from pciedma_lab.chroot import PROJECT

from .conftest import KERNEL, Lab

pytestmark = pytest.mark.usefixtures("patient")

LENGTHS = [1, 100, 4095, 4096, 4097, 70_000, 300_001]


def release(lab: Lab) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", lab.vm.kernel_release)[:2])


def test_direct_flag_is_taken_whatever_the_alignment(lab: Lab) -> None:
    for card, length in (("xdma", 1), ("xdma", 5001), ("xdma", 3 << 20), ("capric", 2047), ("edu", 33)):
        found = lab.call("file_operations:direct", path=lab.nodes[card] + "c0", length=length)
        assert found == {"moved": [length, length], "same": True, "flag": True}, card


def test_syncing_has_nothing_left_to_do(lab: Lab) -> None:
    for card in ("xdma", "capric", "edu"):
        found = lab.call("file_operations:syncing", path=lab.nodes[card] + "c0")
        assert found == {"fsync": None, "fdatasync": None, "sync_file_range": "ESPIPE", "io_uring": 0}, card


def test_fsync_of_a_card_that_is_gone_is_enodev(lab: Lab) -> None:
    found = lab.call(
        "file_operations:fsync_of_a_card_that_goes", path=lab.nodes["edu"] + "c0", driver="pciedma_edu",
        address=lab.addresses["edu"],
    )
    lab.restore()
    assert found == [None, "ENODEV"]


def test_what_only_files_on_disk_do_fails_as_the_kernel_says(lab: Lab) -> None:
    for card in ("xdma", "capric"):
        assert lab.call("file_operations:unsupported", path=lab.nodes[card] + "c0") == {
            "fadvise": None, "fallocate": "ENODEV", "ftruncate": "EINVAL", "mmap": "ENODEV", "copy_from": "EINVAL",
            "copy_to": "EINVAL", "iopoll": "EOPNOTSUPP",
        }
    found = lab.call("file_operations:card_node", path=lab.nodes["xdma"])
    assert found == {"fsync": "EINVAL", "splice_in": "EINVAL", "seek": "ESPIPE", "mmap": "ENODEV"}


def test_seek_from_an_end_that_nobody_knows_is_einval(lab: Lab) -> None:
    found = lab.call("file_operations:seeks", path=lab.memory)
    assert found == {"SET": 7, "CUR": 14, "DATA": "EINVAL", "HOLE": "EINVAL", "END": "EINVAL"}
    found = lab.call("file_operations:seeks", path=lab.nodes["edu"] + "c0")
    assert found == {"SET": 7, "CUR": 14, "DATA": 7, "HOLE": 4096, "END": 4096}


def _flags(lab: Lab, append: object, none: object = 100) -> dict[str, object]:
    """What each flag leads to; *none*: of a write without one."""
    has_noappend = release(lab) >= (6, 9)
    both = "EINVAL" if has_noappend else "EOPNOTSUPP"
    found: dict[str, object] = {"APPEND NOAPPEND write": both, "NOAPPEND write": 100 if has_noappend else "EOPNOTSUPP"}
    for name in ("HIPRI", "DSYNC", "SYNC", "NOWAIT", "none"):
        found |= {f"{name} write": none, f"{name} read": 100}
    found |= {"APPEND write": append, "APPEND read": 100, "NOAPPEND read": found["NOAPPEND write"]}
    for name in ("ATOMIC", "DONTCACHE", "unknown"):
        found |= {f"{name} write": "EOPNOTSUPP", f"{name} read": "EOPNOTSUPP"}
    return found


def test_flags_of_a_call_are_honoured_or_refused(lab: Lab) -> None:
    path = lab.memory
    assert lab.call("file_operations:flags", path=path) == _flags(lab, "EOPNOTSUPP")
    assert lab.call("file_operations:flags", path=path, append=True) == _flags(lab, "EOPNOTSUPP", "EOPNOTSUPP")
    for append in (False, True):  # messages go one behind the other anyway
        assert lab.call("file_operations:flags", path=lab.data, append=append) == _flags(lab, 100)


def test_high_priority_polls_for_that_call(lab: Lab) -> None:
    found = []
    for flag in (True, False):
        lab.xdma.control.counters(reset=True)
        assert lab.call("file_operations:high_priority", path=lab.memory, rounds=20, flag=flag) == 20 * 5000
        found.append(lab.xdma.control.counters().get("interrupts", 0))
    assert found == [0, 20]


def test_splice_and_sendfile_from_the_card(lab: Lab) -> None:
    for flag in (0, os.O_DIRECT):
        assert lab.call("file_operations:splice_from", path=lab.memory, lengths=LENGTHS, flag=flag) == []


def test_splice_tee_vmsplice_and_sendfile_to_the_card(lab: Lab) -> None:
    for flag in (0, os.O_DIRECT):
        assert lab.call("file_operations:splice_to", path=lab.memory, lengths=LENGTHS, flag=flag) == []


def test_splice_by_edu_and_by_io_uring(lab: Lab) -> None:
    options = {"path": lab.nodes["edu"] + "c0", "lengths": [1, 1000, 4000], "position": 50}
    assert lab.call("file_operations:splice_to", **options) == []
    assert lab.call("file_operations:splice_from", **options) == []
    for length in (100, 65536):
        found = lab.call("file_operations:ring_splice", path=lab.memory, length=length)
        assert found == {"to": length, "from": length, "same": True}


def test_spliced_messages_lose_nothing(lab: Lab) -> None:
    assert lab.call("file_operations:spliced_messages", path=lab.data) == {
        "too_long": "EMSGSIZE", "first": 2047, "first_there": True, "rest": 953, "rest_there": True,
        "from": 2047, "from_there": True,
        "file_too_long": "EMSGSIZE", "file_position": ["EMSGSIZE", 0], "file": 2047, "file_there": True,
        "sendfile_from": "EINVAL", "position": "EINVAL",
    }


def test_kernels_own_iterators_move_whole(lab: Lab) -> None:
    """As of kernel_read(), loop devices and network file systems: kvec, bvec, xarray."""
    built = modules.build_folder(KERNEL, Path(__file__).parent / "iterator_probe")
    probe = Path("/mnt/project") / built.relative_to(PROJECT) / "pciedma_iterators.ko"
    found = lab.vm.run(["insmod", str(probe), f"path={lab.memory}"])
    assert found.returncode == 0, lab.vm.kernel_log()[-300:]
    lab.vm.run(["rmmod", "pciedma_iterators"])


#: Length, way, memory, and the bytes that there may be; what is not copied keeps the caller's own.
LOST = {
    "xdma": [
        (100, "sync", "anonymous", [0]), (4095, "sync", "anonymous", [0]), (70_000, "sync", "secret", [0]),
        (70_000, "aio", "secret", [0]), (70_000, "sync", "anonymous", [0x5A]), (100, "aio", "anonymous", [0x5A]),
        (100, "splice", "", [0]), (30_000, "splice", "", [0]), (30_000, "splice_direct", "", [0]),
    ],
    "capric": [(1, "sync", "anonymous", [0]), (2047, "sync", "anonymous", [0]), (2047, "splice", "", [0])],
}


@pytest.mark.parametrize("card", LOST)
def test_data_that_got_lost_shows_nobody_elses(lab: Lab, card: str) -> None:
    """The card says that it has written, and has not: what others have read before must not be seen."""
    path = lab.nodes[card] + "c0"
    assert lab.call("file_operations:marked", path=path, length=2047) == 20
    lab.cards[card].control.set_fault("dropped_dma")
    for length, way, kind, expected in LOST[card]:
        found = lab.call("file_operations:bytes_after", path=path, length=length, way=way, kind=kind)
        assert found == expected, (length, way, kind)
