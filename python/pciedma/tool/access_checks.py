"""doctor's checks of the user's rights: nodes, group, and limits."""

from __future__ import annotations

from .facts import Facts
from .findings import Finding, note, ok, problem
from .system import Group, Owner

GROUP = "pciedma"
REGISTERS_GROUP = "pciedma-regs"
LIMITS_FILE = "/etc/security/limits.d/00-pciedma.conf"

#: Below it, a program that pins without a bound on time soon gets ENOMEM.
ENOUGH_MEMLOCK = 64 << 20

_ELSE = "The user is in the group that owns them; something else forbids it."
_LOOK = ["ls -l /dev/pciedma*", "id"]
_REGISTERS = (
    "They are registers of a card's own logic, which can be told by them to reach any memory that the card can; data "
    "move without them."
)

_RULE_FOLDERS = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")


def _rules(facts: Facts) -> list[str]:
    """Return udev's files of rules for us that count: of those with one name the first folder's."""
    found = {name: f"{folder}/{name}" for folder in reversed(_RULE_FOLDERS)
             for name in facts.system.names(folder, "*pciedma*.rules")}
    return list(found.values())


def _rules_cause(facts: Facts, name: str) -> tuple[list[str], list[str]]:
    """Return why udev cannot give nodes to the group *name*, in sentences, and how to mend it."""
    causes, steps = [], []
    if facts.system.group_named(name) is None:
        causes.append(f"The group {name} does not exist.")
        steps.append(f"sudo addgroup --system {name}")
    rules = _rules(facts)
    if not rules:
        causes.append("udev's rule is missing: 60-pciedma.rules (in the sources: dkms/) belongs into "
                      "/usr/lib/udev/rules.d or /etc/udev/rules.d.")
        steps.append("sudo apt install --reinstall pciedma-common")
    elif not any(f'"{name}"' in (facts.system.text(rule) or "") for rule in rules):
        causes.append(f"{', '.join(rules)} knows no group {name}: it is an older version's, or somebody's own.")
        ours = all(rule.startswith(("/usr/lib/", "/lib/")) for rule in rules)
        steps.append("sudo apt install --reinstall pciedma-common" if ours else
                     "# put the newer 60-pciedma.rules (in the sources: dkms/) in its place; where pciedma-common is "
                     "installed, which has it, just remove it")
    return causes, steps


def _is_given(owner: Owner | None, group: Group | None) -> bool:
    return owner is not None and group is not None and owner.gid == group.gid and owner.mode & 0o060 == 0o060


def _nodes_cause(facts: Facts, name: str, are_given: bool) -> tuple[list[str], list[str]]:
    """Return why nodes belong to others than the group *name*, in sentences, and how to mend it."""
    causes, steps = _rules_cause(facts, name)
    if not are_given:
        causes += [] if causes else ["The nodes were made before udev knew its rule."]
        steps += ["sudo udevadm control --reload", "sudo udevadm trigger --subsystem-match=pciedma"]
    return causes, steps


def _user_cause(facts: Facts, name: str) -> tuple[list[str], list[str]]:
    """Return why the user has not the rights of the group *name*, in sentences, and how to get them."""
    user, group = facts.user, facts.system.group_named(name)
    again = f"# log out and in again (in this shell only: newgrp {name})"
    if group and group.gid in user.groups:
        return [], []
    if group and user.name in group.members:
        return [f"{user.name} is in the group {name}, but this session began before that."], [again]
    return [f"{user.name} is not in the group {name}."], [f"sudo adduser {user.name} {name}", again]


def _not_passed(nodes: list[str]) -> Finding:
    return note(
        f"{', '.join(nodes)}: not in this container",
        "The host's kernel has the card; a container has those nodes that it was given when it was made.",
        f"# if a program in it needs one: make it with, for example, --device {nodes[0]}",
    )


def _closed(facts: Facts, nodes: list[str]) -> list[Finding]:
    """Return why nodes of cards and channels that are there may not be opened."""
    if not nodes:
        return []
    group = facts.system.group_named(GROUP)
    are_given = all(_is_given(facts.system.owner_of(facts.system.path(node)), group) for node in nodes)
    causes, steps = _nodes_cause(facts, GROUP, are_given)
    more_causes, more_steps = _user_cause(facts, GROUP)
    summary = f"{facts.user.name} may not open {', '.join(nodes)}"
    cause = " ".join(causes + more_causes) or _ELSE
    return [problem(summary, cause, *(steps + more_steps or _LOOK))]


def _is_misplaced(facts: Facts, node: str, closed: bool) -> bool:
    """Tell whether the node of a window is others' than its group's: closed to that, or open to more.

    A group of the machine's own, by which the user may open it, is somebody's choice.
    """
    owner = facts.system.owner_of(facts.system.path(node))
    if owner is None:
        return False
    group, cards_group = facts.system.group_named(REGISTERS_GROUP), facts.system.group_named(GROUP)
    is_open_to_more = owner.mode & 0o006 != 0 or _is_given(owner, cards_group)
    return is_open_to_more or (closed and not _is_given(owner, group))


def _windows(facts: Facts, windows: list[str], closed: list[str]) -> list[Finding]:
    """Return whose the nodes of windows are by mistake, and why the user may not open the *closed* ones of the rest."""
    findings = []
    misplaced = [node for node in windows if _is_misplaced(facts, node, node in closed)]
    if misplaced:
        causes, steps = _nodes_cause(facts, REGISTERS_GROUP, are_given=False)
        summary = f"{', '.join(misplaced)}: not for the group {REGISTERS_GROUP}, or not for it alone"
        findings.append(problem(summary, " ".join([_REGISTERS, *causes]), *steps))
    rest = [node for node in closed if node not in misplaced]
    if rest:
        causes, steps = _user_cause(facts, REGISTERS_GROUP)
        summary = f"{facts.user.name} may not open {', '.join(rest)}"
        findings.append(note(summary, " ".join([_REGISTERS, *causes]), *steps) if causes else
                        problem(summary, _ELSE, *_LOOK))
    return findings


def check_nodes(facts: Facts) -> list[Finding]:
    """May the user open the cards' nodes, and is it the right ones who may open those of windows?"""
    nodes = [node for card in facts.cards for node in card.nodes]
    windows = [window.node for card in facts.cards for window in card.windows]
    closed = [node for node in nodes + windows if not facts.system.may_use(facts.system.path(node))]
    absent = [node for node in closed if facts.system.owner_of(facts.system.path(node)) is None]
    if absent and not facts.system.is_container:
        return [problem(f"{', '.join(absent)}: not there", "The kernel has the card, but /dev does not show it.",
                        "sudo udevadm trigger --subsystem-match=pciedma", "ls -l /dev/pciedma*")]
    there = [node for node in closed if node not in absent]
    findings = [_not_passed(absent)] if absent else []
    findings += _closed(facts, [node for node in there if node in nodes])
    findings += _windows(facts, windows, [node for node in there if node in windows])
    root = " by root; without sudo doctor looks for yourself" if facts.user.uid == 0 else ""
    return findings or [ok(f"all may be opened{root}" if nodes else "none")]


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
    causes, steps = _user_cause(facts, GROUP) if group else ([], [])
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
