"""doctor's checks of the user's rights: nodes, group, and limits."""

from __future__ import annotations

from .facts import Facts
from .findings import Finding, note, ok, problem

GROUP = "pciedma"
LIMITS_FILE = "/etc/security/limits.d/pciedma.conf"

#: Below it, a program that pins without a bound on time soon gets ENOMEM.
ENOUGH_MEMLOCK = 64 << 20

_RULE_FOLDERS = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")


def _has_rule(facts: Facts) -> bool:
    return any(facts.system.names(folder, "*pciedma*.rules") for folder in _RULE_FOLDERS)


def _group(facts: Facts) -> tuple[int, list[str]] | None:
    """Return the number and the members of the group; None if there is none."""
    for line in facts.system.lines("/etc/group"):
        fields = line.split(":")
        if fields[0] == GROUP and len(fields) == 4:
            return int(fields[2]), fields[3].split(",")
    return None


def _nodes_cause(facts: Facts, nodes: list[str], group: int | None) -> tuple[list[str], list[str]]:
    """Return why nodes belong to others than the group, in sentences, and how to mend it."""
    causes, steps = [], []
    if group is None:
        causes.append(f"The group {GROUP} does not exist.")
        steps.append(f"sudo addgroup --system {GROUP}")
    if not _has_rule(facts):
        causes.append("udev's rule is missing: 60-pciedma.rules (in the sources: dkms/) belongs into "
                      "/usr/lib/udev/rules.d or /etc/udev/rules.d.")
        steps.append("sudo apt install --reinstall pciedma-common")
    owners = [facts.system.owner_of(facts.system.path(node)) for node in nodes]
    given = [owner for owner in owners if owner and owner.gid == group and owner.mode & 0o060 == 0o060]
    if len(given) < len(nodes):
        causes += [] if causes else ["The nodes were made before udev knew its rule."]
        steps += ["sudo udevadm control --reload", "sudo udevadm trigger --subsystem-match=pciedma"]
    return causes, steps


def _user_cause(facts: Facts, group: tuple[int, list[str]] | None) -> tuple[list[str], list[str]]:
    """Return why the user has not the group's rights, in sentences, and how to get them."""
    user = facts.user
    again = f"# log out and in again (in this shell only: newgrp {GROUP})"
    if group and group[0] in user.groups:
        return [], []
    if group and user.name in group[1]:
        return [f"{user.name} is in the group {GROUP}, but this session began before that."], [again]
    return [f"{user.name} is not in the group {GROUP}."], [f"sudo adduser {user.name} {GROUP}", again]


def check_nodes(facts: Facts) -> list[Finding]:
    """May the user open the cards' nodes?"""
    nodes = [node for card in facts.cards for node in card.nodes]
    closed = [node for node in nodes if not facts.system.may_use(facts.system.path(node))]
    if not closed:
        root = " by root; without sudo doctor looks for yourself" if facts.user.uid == 0 else ""
        return [ok(f"all may be opened{root}" if nodes else "none")]
    absent = [node for node in closed if facts.system.owner_of(facts.system.path(node)) is None]
    if absent:
        return [problem(f"{', '.join(absent)}: not there", "The kernel has the card, but /dev does not show it.",
                        "sudo udevadm trigger --subsystem-match=pciedma", "ls -l /dev/pciedma*")]
    group = _group(facts)
    causes, steps = _nodes_cause(facts, closed, group[0] if group else None)
    more_causes, more_steps = _user_cause(facts, group)
    summary = f"{facts.user.name} may not open {', '.join(closed)}"
    cause = " ".join(causes + more_causes) or "The user is in the group that owns them; something else forbids it."
    return [problem(summary, cause, *(steps + more_steps or ["ls -l /dev/pciedma*", "id"]))]


def _memlock(facts: Facts) -> int | None:
    """Return the limit in bytes; None: none, or not known."""
    for line in facts.system.lines("/proc/self/limits"):
        if line.startswith("Max locked memory"):
            soft = line.split()[3]
            return int(soft) if soft.isdigit() else None
    return None


def check_memlock(facts: Facts) -> list[Finding]:
    """Is the limit on pinned memory too low for long-lived pins?"""
    limit = _memlock(facts)
    if facts.user.uid == 0 or limit is None or limit >= ENOUGH_MEMLOCK:
        text = "no limit" if limit is None else f"{limit >> 10} KiB"
        return [ok("root has no limit" if facts.user.uid == 0 else text)]
    again = "# log out and in again; for a service of systemd's: LimitMEMLOCK=infinity"
    there = any("memlock" in line and not line.startswith("#") for line in facts.system.lines(LIMITS_FILE))
    steps = (again,) if there else (f"echo '@{GROUP} - memlock 1048576' | sudo tee {LIMITS_FILE}", again)
    raised = f" {LIMITS_FILE} raises it for members of {GROUP}; this session began before." if there else ""
    return [note(
        f"only {limit >> 10} KiB may be pinned without a bound on time",
        f"Calls without a time-out count against RLIMIT_MEMLOCK, and fail with ENOMEM above it; others do not.{raised}",
        *steps,
    )]
