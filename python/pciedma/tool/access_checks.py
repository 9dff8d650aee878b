"""doctor's checks of the user's rights: nodes, group, and limits."""

from __future__ import annotations

from .facts import Facts
from .findings import Finding, note, ok, problem
from .system import Group

GROUP = "pciedma"
LIMITS_FILE = "/etc/security/limits.d/00-pciedma.conf"

#: Below it, a program that pins without a bound on time soon gets ENOMEM.
ENOUGH_MEMLOCK = 64 << 20

_RULE_FOLDERS = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")


def _has_rule(facts: Facts) -> bool:
    return any(facts.system.names(folder, "*pciedma*.rules") for folder in _RULE_FOLDERS)


def _nodes_cause(facts: Facts, nodes: list[str], group: Group | None) -> tuple[list[str], list[str]]:
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
    given = [owner for owner in owners if group and owner and owner.gid == group.gid and owner.mode & 0o060 == 0o060]
    if len(given) < len(nodes):
        causes += [] if causes else ["The nodes were made before udev knew its rule."]
        steps += ["sudo udevadm control --reload", "sudo udevadm trigger --subsystem-match=pciedma"]
    return causes, steps


def _user_cause(facts: Facts, group: Group | None) -> tuple[list[str], list[str]]:
    """Return why the user has not the group's rights, in sentences, and how to get them."""
    user = facts.user
    again = f"# log out and in again (in this shell only: newgrp {GROUP})"
    if group and group.gid in user.groups:
        return [], []
    if group and user.name in group.members:
        return [f"{user.name} is in the group {GROUP}, but this session began before that."], [again]
    return [f"{user.name} is not in the group {GROUP}."], [f"sudo adduser {user.name} {GROUP}", again]


def _not_passed(nodes: list[str]) -> Finding:
    return note(
        f"{', '.join(nodes)}: not in this container",
        "The host's kernel has the card; a container has those nodes that it was given when it was made.",
        f"# if a program in it needs one: make it with, for example, --device {nodes[0]}",
    )


def _closed(facts: Facts, nodes: list[str]) -> list[Finding]:
    """Return why nodes that are there may not be opened."""
    if not nodes:
        return []
    group = facts.system.group_named(GROUP)
    causes, steps = _nodes_cause(facts, nodes, group)
    more_causes, more_steps = _user_cause(facts, group)
    summary = f"{facts.user.name} may not open {', '.join(nodes)}"
    cause = " ".join(causes + more_causes) or "The user is in the group that owns them; something else forbids it."
    return [problem(summary, cause, *(steps + more_steps or ["ls -l /dev/pciedma*", "id"]))]


def check_nodes(facts: Facts) -> list[Finding]:
    """May the user open the cards' nodes?"""
    nodes = [node for card in facts.cards for node in card.nodes]
    closed = [node for node in nodes if not facts.system.may_use(facts.system.path(node))]
    if not closed:
        root = " by root; without sudo doctor looks for yourself" if facts.user.uid == 0 else ""
        return [ok(f"all may be opened{root}" if nodes else "none")]
    absent = [node for node in closed if facts.system.owner_of(facts.system.path(node)) is None]
    if absent and facts.system.is_container:
        return [_not_passed(absent), *_closed(facts, [node for node in closed if node not in absent])]
    if absent:
        return [problem(f"{', '.join(absent)}: not there", "The kernel has the card, but /dev does not show it.",
                        "sudo udevadm trigger --subsystem-match=pciedma", "ls -l /dev/pciedma*")]
    return _closed(facts, closed)


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
    group = facts.system.group_named(GROUP)
    causes, steps = _user_cause(facts, group) if group else ([], [])
    steps = [step for step in steps if not step.startswith("#")]
    if any("memlock" in line and not line.startswith("#") for line in facts.system.lines(LIMITS_FILE)):
        causes = [f"{LIMITS_FILE} raises it for members of {GROUP}.",
                  *(causes or ["This session began before, or another line overrides it."])]
        steps = steps or ["grep -rn memlock /etc/security/limits.conf /etc/security/limits.d"]
    else:
        causes = []
        steps = [f"echo '@{GROUP} - memlock 1048576' | sudo tee {LIMITS_FILE}", *steps]
    cause = "Calls without a time-out, or with one above 60 s, count against it, and fail with ENOMEM beyond it."
    summary = f"only {limit >> 10} KiB (RLIMIT_MEMLOCK) may be pinned without a bound on time"
    return [note(summary, " ".join([cause, *causes]), *steps, again)]
