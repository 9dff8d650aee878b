"""doctor's checks of the cards: on the bus, taken by the driver, and healthy."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .cards import CardState, ChannelState, State
from .facts import Facts
from .findings import Finding, note, ok, problem, skipped
from .kernel_modules import ConfigLine
from .pci import DEVICES, PciDevice

IDS_FILE = "/etc/modprobe.d/pciedma-ids.conf"

#: What most boards with ids of their own have inside.
DEFAULT_MODULE = "pciedma_xdma"

# What a machine stands on, by class or class and subclass: no command here takes such a device from its driver.
_VITAL = {
    "01": "storage controller",
    "02": "network adapter",
    "03": "display controller",
    "06": "bridge",
    "0c03": "USB controller",
}

# With what the driver and the kernel end their attempt to bind a card, in the log.
_BOUND = "card is pciedma"
_FAILED = "failed with error"
_END_OF_PROBE = re.compile(rf"{_BOUND}|{_FAILED}|: not an? .*card|XDMA cores before|: 0 H2C, 0 C2H channels")

_TROUBLE = ("the card could not be stopped", "the card does not answer", "the bus has failed", "function reset failed",
            "configuration space was lost", "had to be stopped")


def _take_over(device: PciDevice, module: str) -> tuple[str, ...]:
    """Return how to give a device to a module of ours until the next start."""
    folder = f"{DEVICES}/{device.address}"
    unbind = (f"echo {device.address} | sudo tee {folder}/driver/unbind",) if device.driver else ()
    return (
        f"sudo modprobe {module}",
        f"echo {module} | sudo tee {folder}/driver_override",
        *unbind,
        f"echo {device.address} | sudo tee /sys/bus/pci/drivers_probe",
    )


def _is_ours(device: PciDevice) -> bool:
    return (device.driver or "").startswith("pciedma")


def _lines_with_ids(facts: Facts) -> dict[str, ConfigLine]:
    """Return the line that gives each module its ids: of two the kernel takes the last."""
    return {line.words[1]: line for line in facts.configuration
            if line.words[0] == "options" and line.options("ids")}


def _add_alias(device: PciDevice, module: str) -> str:
    """Return how to make udev load a module for a device's ids."""
    alias = f"pci:v{device.vendor:08X}d{device.device:08X}sv*sd*bc*sc*i*"
    return f"echo 'alias {alias} {module}' | sudo tee -a {IDS_FILE}"


def _add_ids(facts: Facts, device: PciDevice, module: str) -> tuple[str, ...]:
    """Return how to make a module take a device's ids after each start."""
    options = f"echo 'options {module} ids={device.ids}' | sudo tee -a {IDS_FILE}"
    if line := _lines_with_ids(facts).get(module):
        options = rf"sudo sed -i '{line.number}s/ids=\(\"\?\)/ids=\1{device.ids},/' {line.file}"
    return options, _add_alias(device, module)


def _given_ids(facts: Facts, device: PciDevice) -> tuple[ConfigLine, str] | None:
    """Return the line that gives a module this device's ids, and the module."""
    for module, line in _lines_with_ids(facts).items():
        given = [ids.split(":")[:2] for ids in line.options("ids")[-1].split(",")]
        if device.ids in [":".join(word.lower().zfill(4) for word in words) for words in given]:
            return line, module
    return None


def _device_without_alias(device: PciDevice, line: ConfigLine, module: str) -> Finding:
    return problem(
        f"{device.address} ({device.ids}): no alias loads {module} for it",
        f"{line} gives the module its ids, but udev does not know that.",
        _add_alias(device, module),
        *_take_over(device, module),
    )


def _unknown_device(facts: Facts, device: PciDevice) -> Finding:
    return problem(
        f"{device.address} has ids that the driver does not know: {device.ids}",
        f"Boards often have ids of their own. If an XDMA core is on it, give the ids to {DEFAULT_MODULE}, which reads "
        "the core's identifiers before it writes. If it is a Capric card, type pciedma_capric in its place, but be "
        "sure: that can tell a card only by the length of its BAR.",
        *_add_ids(facts, device, DEFAULT_MODULE),
        *_take_over(device, DEFAULT_MODULE),
    )


def _foreign_device(facts: Facts, device: PciDevice) -> Finding:
    """Judge a device that has a driver and no ids of ours: most likely it is no card."""
    summary = f"{device.address} ({device.ids}) belongs to the driver {device.driver}; its ids are none of ours"
    kind = next((kind for code, kind in _VITAL.items() if f"{device.device_class:06x}".startswith(code)), None)
    if kind:
        return note(
            summary,
            f"It says that it is a {kind}: most likely all is well with it, and the machine needs it. If it is a card "
            f"of yours, give it to {DEFAULT_MODULE} by ids= and an alias in {IDS_FILE}, and by its driver_override "
            f"before {device.driver} takes it; doctor takes nothing of the kind from its driver.",
            f"lspci -nnk -s {device.address}",
        )
    return note(
        summary,
        "If it is no card of yours, all is well with it. If it is one with an XDMA core, give its ids to "
        f"{DEFAULT_MODULE} and take it over; if it is a Capric card, type pciedma_capric in its place.",
        *_add_ids(facts, device, DEFAULT_MODULE),
        *_take_over(device, DEFAULT_MODULE),
        f"# if {device.driver} has it again after the next start, and no other device needs {device.driver}: "
        f"blacklist it in {IDS_FILE}",
    )


def _foreign_driver(device: PciDevice, module: str) -> Finding:
    return problem(
        f"{device.address} ({device.ids}) belongs to the driver {device.driver}",
        f"By its ids {module} could take it, but {device.driver} was there first. If it is one of ours, take it over "
        "(until the next start); if it is not, all is well with it.",
        *_take_over(device, module),
    )


def check_device(facts: Facts) -> list[Finding]:
    """Why does the card that the user named not work?"""
    if facts.device is None:
        return []
    device = next((device for device in facts.devices if device.address == facts.device), None)
    if device is None:
        return [problem(
            f"there is nothing at {facts.device}",
            "The address is wrong, or the card did not come up: is it seated, powered, and its FPGA configured before "
            "the machine looked at the bus?",
            "lspci -nn",
            "echo 1 | sudo tee /sys/bus/pci/rescan",
        )]
    module = facts.module_of(device)
    if _is_ours(device):
        return [ok(f"{device.address} ({device.ids}) is bound to {device.driver}")]
    if not facts.installed:
        return [skipped(f"{device.address} ({device.ids}): without installed modules their ids are not known")]
    if module:
        return [ok(f"{device.address} has ids of {' and '.join(facts.modules_of(device))}: {device.ids}")]
    if device.driver:
        return [_foreign_device(facts, device)]
    if given := _given_ids(facts, device):
        return [_device_without_alias(device, *given)]
    return [_unknown_device(facts, device)]


def check_cards(facts: Facts) -> list[Finding]:
    """Is there a card of ours?"""
    if facts.cards:
        return [ok(", ".join(f"{card.node} ({card.name}, {card.pci.address})" for card in facts.cards))]
    if facts.matching:
        places = ", ".join(dict.fromkeys(f"{device.address} ({device.ids})" for device, _ in facts.matching))
        return [ok(f"none works yet; on the bus with ids of ours: {places}")]
    if not facts.installed:
        why = "may not be seen" if facts.modules_are_hidden else "are not installed here"
        return [problem(
            "the driver has taken no card",
            f"The modules {why}, so doctor does not know their ids. The kernel log has a line for each card that the "
            "driver declined.",
            "sudo dmesg | grep pciedma",
            "lspci -nn",
        )]
    return [problem(
        "no card on the bus",
        "No PCI device has ids that the driver knows. If lspci shows your card, it has ids of its own: name its "
        "address to doctor. If not, it is not seated, not powered, or its FPGA was configured too late: look again.",
        "lspci -nn",
        "pciedma doctor --device ADDRESS",
        "echo 1 | sudo tee /sys/bus/pci/rescan",
    )]


def _block(facts: Facts, module: str) -> ConfigLine | None:
    """Return the line of modprobe's configuration that keeps a module from being loaded."""
    for line in facts.configuration:
        if line.words[:2] == ("blacklist", module):
            return line
        if line.words[0] == "install" and line.words[1] in (module, "pciedma") and \
                line.words[2:3] and line.words[2].rpartition("/")[2] in ("false", "true"):
            return line
    return None


def _blocked_at_boot(facts: Facts, module: str) -> str | None:
    """Return the kernel's argument that keeps a module from being loaded."""
    for word in (facts.system.text("/proc/cmdline") or "").split():
        name, _, names = word.partition("=")
        if name in ("module_blacklist", "modprobe.blacklist") and {module, "pciedma"} & set(names.split(",")):
            return word
    return None


def _not_loaded(facts: Facts, device: PciDevice, module: str) -> Finding:
    summary = f"{module} is not loaded, though {device.address} ({device.ids}) is there"
    if line := _block(facts, module):
        return problem(
            summary,
            f'{line} forbids it: "{" ".join(line.words)}".',
            f"sudo sed -i '{line.number}s/^/# /' {line.file}",
            f"sudo modprobe {module}",
        )
    if word := _blocked_at_boot(facts, module):
        return problem(
            summary,
            f"The kernel was started with {word}, which forbids it.",
            "sudoedit /etc/default/grub",
            f"# remove {word}, then",
            "sudo update-grub && sudo reboot",
        )
    cause = "udev loads it when the card appears; the module was installed later than that, or was removed by hand."
    return problem(summary, cause, f"sudo modprobe {module}")


def check_loaded(facts: Facts) -> list[Finding]:
    """Is the module of each card loaded?"""
    missing = {
        module: device
        for device, module in facts.matching
        if device.driver is None and not {*facts.modules_of(device)} & {*facts.loaded}
    }
    if missing:
        return [_not_loaded(facts, device, module) for module, device in missing.items()]
    return [ok(", ".join(facts.loaded) or "nothing to load")]


def _declined(facts: Facts, device: PciDevice, module: str) -> Finding:
    summary = f"{device.address} ({device.ids}) is not bound, though {module} is loaded"
    if device.override and device.override != module:
        return problem(
            summary,
            f"Its driver_override is {device.override}, which keeps all other drivers away.",
            *_take_over(device, module)[1:],
        )
    bind = f"echo {device.address} | sudo tee /sys/bus/pci/drivers/{module}/bind"
    lines = [line for line in facts.log or [] if module in line and device.address in line]
    line = next((line for line in reversed(lines) if _END_OF_PROBE.search(line)), None)
    if line is None:
        return problem(
            summary,
            "The driver declined it, could not start it, or it was unbound by hand; the kernel log's lines of that "
            "time tell which.",
            "sudo dmesg | grep pciedma",
            "# if it was unbound by hand:",
            bind,
        )
    if _BOUND in line:
        return problem(summary, "It was bound before, and has been unbound by hand since.", bind)
    if _FAILED in line:
        return problem(summary, f'The driver could not start it: "{line.strip()}". The lines before may say more.',
                       "sudo dmesg | grep pciedma", "# with that mended, once more:", bind)
    return problem(
        summary,
        f'The driver declined it: "{line.strip()}". Unrelated designs have the same ids: it may be no card of ours, '
        "or its FPGA holds another design.",
        "sudo dmesg | grep pciedma",
        f"lspci -vv -s {device.address}",
    )


def _shared_ids(device: PciDevice, modules: Sequence[str]) -> Finding:
    owner = device.driver if device.driver in modules else None
    steps = []
    for module in modules:
        if module != owner:
            others = " ".join(other for other in modules if other != module)
            steps += [
                f"# if it is one for {module}:",
                *_take_over(device, module),
                f"# after each start, too, if no other card needs {others}: blacklist that in {IDS_FILE}",
            ]
    return note(
        f"{device.address} has ids of {' and '.join(modules)}: {device.ids}; {owner or 'none of them'} has it",
        "Several designs have these ids. The module that is there first and does not decline the card takes it.",
        *steps,
    )


def check_driver(facts: Facts) -> list[Finding]:
    """Has our driver taken each card that its ids know?"""
    findings = []
    for device, module in facts.matching:
        if device.driver is None and module in facts.loaded:
            findings.append(_declined(facts, device, module))
        elif device.driver and not _is_ours(device) and module == facts.module_of(device):
            findings.append(_foreign_driver(device, module))
    shared = [_shared_ids(device, facts.modules_of(device)) for device in facts.devices
              if len(facts.modules_of(device)) > 1]
    bound = [device.address for device in facts.devices if _is_ours(device)]
    return [*(findings or [ok(f"bound: {', '.join(bound)}" if bound else "nothing to bind")]), *shared]


_STATES = {
    State.NO_ANSWER: "It reads as all ones: it has lost power or its link, or its FPGA is being configured.",
    State.CONFIG_LOST: "Its memory space or bus mastering is off, or a BAR has changed, as after its FPGA was "
    "configured anew: calls fail with EIO.",
    State.STOPPED: "It could not be stopped by other means, so the driver has cut it off; calls fail with EIO.",
    State.QUARANTINED: "The card was not proven to leave this memory alone, so it is kept from everybody else.",
}


def _reset(card: CardState) -> tuple[str, ...]:
    return f"pciedma reset {card.index}", "pciedma doctor"


def _ill(card: CardState) -> Finding:
    kept = f", {card.quarantined_bytes} bytes kept" if card.quarantined_bytes else ""
    return problem(
        f"{card.node} ({card.pci.address}): {card.state.value}{kept}",
        f"{_STATES[card.state]} A reset brings it back if it can be; else switch the machine off and on.",
        *_reset(card),
    )


def _unwell(card: CardState, channel: ChannelState, trouble: str) -> Finding:
    return problem(
        f"{channel.node} ({card.pci.address}): {trouble}",
        "failing: the engine had to be stopped several times in a row, and no transfer went well since; broken: its "
        "calls fail at once until the card is reset. The kernel log says since when. If a reset does not help, look at "
        "the card's logic and at what it is connected to.",
        *_reset(card),
    )


def check_health(facts: Facts) -> list[Finding]:
    """Does each card still work, as far as it shows?"""
    findings = [_ill(card) for card in facts.cards if card.state != State.OK]
    findings += [_unwell(card, *pair) for card in facts.cards if card.state == State.OK for pair in card.unwell]
    return findings or [ok("all cards answer" if facts.cards else "no card is bound")]


def check_others(facts: Facts) -> list[Finding]:
    """Which devices without a driver might be cards with ids of their own? Without installed modules all might."""
    found = [device for device in facts.devices
             if not device.driver and not device.is_bridge and not facts.module_of(device)]
    if not found or facts.device or not facts.installed:
        return []
    return [note(
        "without any driver: " + ", ".join(f"{device.address} ({device.ids})" for device in found),
        "If one of them is your card, with ids of its own, doctor says how to add them.",
        f"pciedma doctor --device {found[0].address}",
    )]


def check_log(facts: Facts) -> list[Finding]:
    """Does the kernel log tell of trouble with a card?"""
    if facts.log is None:
        if facts.system.is_container:
            return [note("not readable in this container", "doctor finds more causes on the host.")]
        if facts.user.uid == 0:
            return [note("not readable, though root asks", "There is neither dmesg nor journalctl, or not for you.")]
        return [note("not readable without root", "doctor finds more causes when it may read it.",
                     "sudo pciedma doctor")]
    lines = [line for line in facts.log if "pciedma" in line and any(words in line for words in _TROUBLE)]
    if not lines:
        return [ok("no trouble with a card")]
    return [note(f'"{lines[-1].strip()}"', "A reset since may have mended it.", "sudo dmesg | grep pciedma")]
