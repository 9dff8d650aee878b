"""The tests' own clients of io_uring and Linux AIO, their buffers and their load, on the kernel's own files."""

from __future__ import annotations

import pytest

from .conftest import Lab

PAGE = 4096
SINGLE_ISSUER, DEFER_TASKRUN = 1 << 12, 1 << 13
MIB = 1 << 20


def test_io_uring_is_allowed(machine: Lab) -> None:
    assert machine.call("async_clients:io_uring_disabled") == 0


@pytest.mark.parametrize("flags", [0, SINGLE_ISSUER | DEFER_TASKRUN], ids=["plain", "deferred"])
@pytest.mark.parametrize("way", ["read", "readv", "read_fixed", "registered_file"])
def test_io_uring_reads_of_depth_8_are_right(machine: Lab, way: str, flags: int) -> None:
    assert machine.call("async_clients:uring_reads", way=way, flags=flags) == []


def test_io_uring_writes_at_places_and_at_the_position(machine: Lab) -> None:
    assert machine.call("async_clients:uring_writes") == [True] * 3


def test_io_uring_zeros_nops_and_full_rings(machine: Lab) -> None:
    found = machine.call("async_clients:uring_zero_and_nop")
    assert found == {"zero": True, "order": True, "full": ["nothing"] * 4 + ["EAGAIN"]}


def test_io_uring_cancels_the_one_request_meant(machine: Lab) -> None:
    assert machine.call("async_clients:uring_cancel") == {
        "early": "TimeoutError", "cancelled": {"1": "ECANCELED", "2": 0, "3": "ENOENT"}, "rest": {"5": 5},
        "data": "hello\0",
    }


def test_io_uring_link_timeout_bounds_a_request(machine: Lab) -> None:
    assert machine.call("async_clients:uring_link_timeout") == {
        "late": {"1": "ECANCELED", "2": "ETIME"}, "late_quick": True,
        "in_time": {"1": 1, "2": "ECANCELED"}, "in_time_quick": True,
    }


def test_io_uring_errors_are_exact_and_nothing_is_lost(machine: Lab) -> None:
    assert machine.call("async_clients:uring_errors") == {
        "completions": {"1": "EBADF", "2": "EINVAL", "3": 0}, "nothing": "TimeoutError", "waited": True,
        "kept": "TimeoutError", "later": [[7, 0]], "depth_0": "EINVAL", "mode": "ValueError", "buffers": "EFAULT",
        "files": "EBADF",
    }


def test_aio_writes_and_vectored_reads_of_depth_8_are_right(machine: Lab) -> None:
    assert machine.call("async_clients:aio_file") == []


def test_aio_reads_directly_from_a_disk_and_from_ext4(machine: Lab) -> None:
    found = machine.call("async_clients:aio_direct")
    assert found == {"disk": True, "disk_odd": "EINVAL", "file": True, "file_odd": "EINVAL"}


def test_aio_cancels_and_refuses_exactly(machine: Lab) -> None:
    assert machine.call("async_clients:aio_cancel_and_errors") == {
        "early": "TimeoutError", "cancel": "EINPROGRESS", "event": [[5, 0]], "again": "EINVAL", "bad_file": "EBADF",
        "bad_opcode": "EINVAL", "depth_0": "EINVAL", "null": {"6": "EFAULT"}, "destroyed": "EINVAL",
    }


def test_buffers_view_is_their_address(machine: Lab) -> None:
    assert machine.call("buffers:reserve_huge_pages", count=4) == 4
    assert machine.call("async_clients:kinds_of_memory") == []
    assert machine.call("buffers:reserve_huge_pages", count=0) == 0


def test_buffers_with_sides_holes_and_protections_are_what_they_say(machine: Lab) -> None:
    assert machine.call("async_clients:mappings_of") == {
        "straddling": 64 * PAGE, "second_half": True, "holed": 32 * PAGE, "guarded": PAGE, "closed": "EFAULT",
        "read_only": "EFAULT", "read_only_data": True, "read_only_view": True, "never_writable": "EACCES",
    }


@pytest.mark.parametrize("workers", [1, 3])
def test_load_of_a_file_is_right_by_all_ways(machine: Lab, workers: int) -> None:
    span = 3 * MIB + 1
    found = machine.call("async_clients:load_of_file", workers=workers, base=12345, span=span, total=60 * MIB)
    assert found["wrong"] == 0, found["first_error"]
    assert found["bytes"] >= workers * 60 * MIB
    assert set(found["calls"]) == {"pread", "readv", "aio", "io_uring", "io_uring_fixed"}


def test_copy_of_a_file_is_right(machine: Lab) -> None:
    length = 256 * MIB + 1
    found = machine.call("async_clients:copy_of_file", length=length, address=7, span=64 * MIB, size=64 * MIB + 7)
    assert found["wrong"] == 0, found["first_error"]
    assert found["bytes"] == {"write": length, "read": length}
    assert found["size"]


FAULTS = {
    "wrong_byte": "byte ", "byte_before": "beside the buffers", "byte_behind": "beside the buffers",
    "not_read": "byte ", "short": "read", "error": "EIO", "lost_write": "read", "shifted_write": "read",
    "stray_write": "read",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_load_finds_what_is_wrong(machine: Lab, fault: str) -> None:
    found = machine.call("async_clients:load_with", fault=fault, what="load")
    assert found["wrong"] > 0
    assert FAULTS[fault] in found["first_error"]


@pytest.mark.parametrize("fault", FAULTS)
def test_copy_finds_what_is_wrong(machine: Lab, fault: str) -> None:
    found = machine.call("async_clients:load_with", fault=fault, what="copy")
    assert found["wrong"] == 1
    assert "read" in found["first_error"]
