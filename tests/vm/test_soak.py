"""Very many messages with ends before, during and after the wait for them; ``make soak`` runs ten times more."""

from __future__ import annotations

import os

from .conftest import Lab

MESSAGES = int(os.environ.get("PCIEDMA_SOAK_MESSAGES", "100000"))
_CHUNK = 10_000


def test_messages_with_jitter_are_never_lost(lab: Lab) -> None:
    timeouts = [lab.sysfs("capric", f"c0/{engine}/timeouts") for engine in ("c2h", "h2c")]
    looks = [lab.sysfs("capric", f"c0/{engine}/looks") for engine in ("c2h", "h2c")]
    for number in range(0, MESSAGES, _CHUNK):
        # from "done before the start call returns" to "long after the caller sleeps"
        fault = ("jitter=0-200", "jitter=0-60", "early_completion", "jitter=20-500")[number // _CHUNK % 4]
        lab.capric.control.clear_faults()
        lab.capric.control.set_fault(fault)
        result = lab.call("transfers:echo", 900, path=lab.data, count=min(_CHUNK, MESSAGES - number), seed=number)
        assert result["errors"] == 0, result["first_error"]
    assert [lab.sysfs("capric", f"c0/{engine}/timeouts") for engine in ("c2h", "h2c")] == timeouts
    assert [lab.sysfs("capric", f"c0/{engine}/looks") for engine in ("c2h", "h2c")] == looks
