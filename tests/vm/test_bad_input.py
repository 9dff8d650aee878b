"""Mistakes of programs: a clear errno each, and nothing moved."""

from __future__ import annotations

from .conftest import Lab


def test_raw_calls_with_unsuitable_memory_fail_clearly(lab: Lab) -> None:
    lab.capric.control.counters(reset=True)
    results = lab.call("bad_input:raw_calls", path=lab.data)
    good = {"count_0": 0, "odd": 33, "page_end": 100, "longest": 2047}
    for name, length in good.items():
        assert results[f"write_{name}"] == length
        assert results[f"read_{name}"] == length
    assert results["write_count_0_null"] == results["read_count_0_null"] == 0
    for name in ("null", "unmapped", "no_access", "straddling"):
        assert results[f"write_{name}"] == "EFAULT", name
        assert results[f"read_{name}"] == "EFAULT", name
    assert results["write_read_only"] == 100
    assert results["read_read_only"] == "EFAULT"
    assert results["write_too_long"] == results["write_huge"] == "EMSGSIZE"
    assert results["read_huge"] == 2047
    assert results["read_too_long"] == 2047
    moved = [value for value in results.values() if isinstance(value, int) and value > 0]
    assert lab.capric.control.counters()["starts"] == len(moved)


def test_every_reserved_field_of_every_ioctl_is_refused(lab: Lab) -> None:
    results = lab.call("bad_input:bad_ioctls", card=lab.nodes["capric"], channel=lab.data)
    good = {name: value for name, value in results.items() if name.endswith(" good")}
    assert set(good.values()) == {"ok"}
    assert len(good) == 8
    nulls = {name: value for name, value in results.items() if name.endswith(" NULL")}
    assert set(nulls.values()) == {"EFAULT"}
    named = ("mode", "timeout", "unknown", "unknown size", "channel RESET", "read-only RESET")
    assert [results[name] for name in named] == ["EINVAL", "EINVAL", "ENOTTY", "ENOTTY", "ENOTTY", "EBADF"]
    spoilt = {name: value for name, value in results.items() if name not in (*good, *nulls, *named)}
    assert len(spoilt) > 30
    assert set(spoilt.values()) == {"EINVAL"}, spoilt


def test_edu_offsets_around_the_end_of_memory(lab: Lab) -> None:
    results = lab.call("bad_input:positions", path=lab.nodes["edu"] + "c0", size=4096)
    assert results == {
        "read_at_end": 0, "write_at_end": "ENOSPC",
        "read_behind": 0, "write_behind": "ENOSPC",
        "read_across": 10, "write_across": 10,
        "read_far": 0, "write_far": "ENOSPC",
        "seek_end": 4096, "seek_negative": "EINVAL",
    }


def test_edu_raw_calls_with_unsuitable_memory_fail_clearly(lab: Lab) -> None:
    results = lab.call("bad_input:raw_calls", path=lab.nodes["edu"] + "c0")
    for name in ("null", "unmapped", "no_access"):
        assert results[f"write_{name}"] == "EFAULT", name
        assert results[f"read_{name}"] == "EFAULT", name
    assert results["read_read_only"] == "EFAULT"
    assert results["write_odd"] == results["read_odd"] == 33
