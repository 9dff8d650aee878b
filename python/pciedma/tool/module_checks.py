"""doctor's checks of the kernel modules: installed, accepted, configured, and as new as those in the kernel."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable, Iterator

from .. import __version__
from ..uapi import PCIEDMA_SIZE_UNKNOWN
from . import dkms, kernel_modules
from .facts import Facts
from .findings import Finding, note, ok, problem
from .system import Output

_NEWER = "sudo apt update && sudo apt install pciedma-dkms"
_FLAVOUR = re.compile(r"-((?:rt-|cloud-)?(?:amd64|arm64)|arm64-16k)$")
_ENROL_AT_START = (
    "sudo reboot",
    '# in the blue screen at start choose "Enroll MOK" and give the password that you chose for mokutil',
)

# The kernel names the module here. A symbol of our own says only that the core in the kernel is another version's.
_OF_ANOTHER_KERNEL = re.compile(
    r"\b(pciedma\w*): (?:version magic '.*' should be '(.*)'|disagrees about version of symbol (?!pciedma))"
)

_SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_MOKUTIL_ANSWERS = {
    "in the enrollment request": "pending",
    "is not enrolled": "no",
    "is already enrolled": "yes",
    "is already in db": "yes",
}
# The kernel does not name the module that it refuses.
_UNSIGNED = ("Loading of unsigned module is rejected",)
_UNTRUSTED = ("Loading of module with unavailable key is rejected", "unsigned module loading is restricted")
_ID = r"[0-9a-fA-F]{1,4}"
_IDS = re.compile(rf"{_ID}:{_ID}(:{_ID}:{_ID})?(,{_ID}:{_ID}(:{_ID}:{_ID})?)*")
_SIZE = re.compile(r"(0x[0-9a-f]{1,21}|[0-9]{1,22})([KMGTP]?)", re.IGNORECASE | re.ASCII)


def _dkms(facts: Facts, *, rebuild: bool = False) -> tuple[str, ...]:
    """Return how to build and install the modules for the running kernel."""
    if facts.source_version is None:
        return ()
    what = f"pciedma/{facts.source_version} -k {facts.release}"
    if rebuild:
        return (f"sudo dkms build --force {what}", f"sudo dkms install --force {what}")
    return (f"sudo dkms install {what}",)


def _flavour(facts: Facts) -> str | None:
    """Return how Debian names the running kernel's kind; None: it is none of Debian's."""
    match = _FLAVOUR.search(facts.release)
    return match[1] if match else None


def _kernel_of_debian(facts: Facts) -> tuple[str, str]:
    kind = _flavour(facts) or "$(dpkg --print-architecture)"
    return f"sudo apt install linux-image-{kind} linux-headers-{kind}", "sudo reboot"


def _has_headers(facts: Facts) -> bool:
    return not facts.system.is_absent(f"{facts.modules_folder}/build")


def _rebuild(facts: Facts) -> tuple[str, ...]:
    """Return how to build the modules again for the running kernel."""
    headers = () if _has_headers(facts) else (f"sudo apt install linux-headers-{facts.release}",)
    again = _dkms(facts, rebuild=True) or (f"# build and install them again, for {facts.release}",)
    return (*headers, *again)


def _is_held_back(facts: Facts) -> bool:
    return facts.system.exists(dkms.NO_AUTOINSTALL)


def _not_installed(facts: Facts) -> Finding:
    headers = "" if _has_headers(facts) else f"linux-headers-{facts.release} "
    return problem(
        "pciedma is not installed",
        "There are neither modules for the running kernel nor sources to build them from.",
        f"sudo apt install {headers}pciedma-dkms",
    )


def _no_headers(facts: Facts) -> Finding:
    build = f"{facts.modules_folder}/build"
    return problem(
        f"no kernel headers for {facts.release}",
        f"{build} leads nowhere: the headers of the running kernel are missing, so DKMS could not build.",
        f"sudo apt install linux-headers-{facts.release}",
        *(_dkms(facts) if _is_held_back(facts) else (f"sudo dkms autoinstall -k {facts.release}",)),
        *((f"# for later kernels to come with theirs: linux-headers-{kind}",) if (kind := _flavour(facts)) else ()),
        "# if apt does not find them, the running kernel is no longer in the archive: take the present one",
        *_kernel_of_debian(facts),
    )


def _kernel_gone(facts: Facts) -> Finding:
    return problem(
        f"{facts.modules_folder} is not there",
        "The running kernel was removed or replaced by an update, or did not come as a package (then its maker has "
        "the modules and headers).",
        "sudo reboot",
        "# if the same kernel comes back: take one of Debian's, and choose it in the boot menu",
        *_kernel_of_debian(facts),
    )


def _excluded(facts: Facts, exclusion: dkms.Exclusion) -> Finding:
    ours = f"pciedma {facts.source_version}"
    steps: tuple[str, ...] = ("# take a kernel of Debian's, and choose it in the boot menu if another one starts",)
    if exclusion.lacking:
        summary = f"the kernel {facts.release} lacks {', '.join(exclusion.lacking)}"
        cause = f"{ours} needs that, so DKMS skips this kernel."
    elif exclusion.header:
        summary = f"the headers of {facts.release} have no linux/{exclusion.header}"
        cause = f"{ours} knows kernels from 6.1.79 on, but for those of 6.2 to 6.4, so DKMS skips this one."
    elif exclusion.oldest:
        summary = f"the kernel {facts.release} is older than {exclusion.oldest}"
        cause = f"{ours} knows kernels from {exclusion.oldest} on, so DKMS skips this one."
    else:
        summary = f"{ours} does not know the kernel {facts.release}"
        cause = "Its dkms.conf excludes this kernel, so DKMS skips it. A newer pciedma may know it."
        steps = (_NEWER, f"{steps[0]}, while there is no newer pciedma")
    return problem(summary, cause, *steps, *_kernel_of_debian(facts))


def _build_failed(facts: Facts, log: str, line: str) -> Finding:
    return problem(
        f"the build for {facts.release} failed",
        f'{log} says: "{line}". A newer pciedma may know this kernel.',
        f"less {log}",
        _NEWER,
        *_dkms(facts),
    )


def _not_built(facts: Facts) -> Finding:
    others = ", ".join(kernel_modules.releases(facts.system))
    only = f"built only for {others}, not" if others else "not built"
    cause = "nobody has built the modules yet."
    again: tuple[str, ...] = ()
    gone = dkms.claims_installed(facts.system, facts.release)
    if gone:
        cause = "DKMS takes the modules for installed, but their files are gone."
    elif _is_held_back(facts):
        cause = f"{dkms.NO_AUTOINSTALL} keeps DKMS from building the modules by itself."
        again = ("# to have them built for each new kernel, too:", f"sudo rm {dkms.NO_AUTOINSTALL}")
    return problem(
        f"{only} for the running kernel {facts.release}",
        f"The sources of {facts.source_version} and the kernel's headers are here; {cause}",
        *_dkms(facts, rebuild=gone),
        *again,
    )


def _without_modules(facts: Facts) -> Finding:
    return problem(
        f"the kernel {facts.release} cannot load modules",
        "It was built without support for modules, as some cloud machines' kernels are. Boot a kernel of Debian's.",
        *_kernel_of_debian(facts),
    )


def _without_sources(facts: Facts) -> Finding:
    if not facts.loaded:
        return _not_installed(facts)
    return note(
        "loaded, but not installed",
        "The modules in the kernel were loaded from elsewhere (insmod), or removed since: after the next start they "
        "are gone.",
        "sudo apt install pciedma-dkms",
    )


def _why_not_built(facts: Facts) -> Finding:
    if facts.system.is_absent(facts.modules_folder):
        return _kernel_gone(facts)
    if exclusion := dkms.exclusion(facts.system, facts.source_version, facts.release):
        return _excluded(facts, exclusion)
    if not _has_headers(facts):
        return _no_headers(facts)
    failed = dkms.failed_build(facts.system, facts.source_version, facts.release)
    return _build_failed(facts, *failed) if failed else _not_built(facts)


def _in_container(facts: Facts) -> Finding:
    if facts.loaded:
        return ok(f"of the host, whose kernel has {', '.join(facts.loaded)}")
    return problem(
        "the host has loaded no module of ours",
        "A container uses the host's kernel, and has no modules of its own.",
        "# on the host: pciedma doctor",
    )


def _not_visible(facts: Facts) -> Finding:
    return note(
        f"{facts.modules_folder} may not be read",
        "So doctor cannot tell which modules are installed, nor which devices they know.",
        "sudo pciedma doctor",
    )


def _until_next_start(facts: Facts, finding: Finding) -> Finding:
    """Return the finding, with a word on modules that are in the kernel all the same."""
    if not facts.loaded:
        return finding
    return dataclasses.replace(finding, cause=f"{finding.cause} The modules in the kernel work until the next start.")


def _absent(facts: Facts) -> Finding:
    if facts.system.is_container:
        return _in_container(facts)
    if facts.modules_are_hidden:
        return _not_visible(facts)
    if not facts.system.exists("/proc/modules"):
        return _without_modules(facts)
    if facts.source_version is None:
        return _without_sources(facts)
    return _until_next_start(facts, _why_not_built(facts))


def _built_for(facts: Facts) -> dict[str, str]:
    """Return for what each installed module was built, as far as it can be told."""
    fields = {name: kernel_modules.field(facts.system, file, "vermagic") for name, file in facts.installed.items()}
    return {name: text.strip() for name, text in fields.items() if text}


def _refused_by_kernel(facts: Facts, built_for: dict[str, str]) -> tuple[str, str] | None:
    """Return a module that the kernel has refused as another kernel's, and the log's line; not if mended since."""
    matches = [match for line in facts.log or [] if (match := _OF_ANOTHER_KERNEL.search(line))]
    for match in reversed(matches):
        name, demanded = match[1], match[2]
        mended = name in facts.loaded or (demanded is not None and built_for.get(name) == demanded.strip())
        if name in facts.installed and not mended:
            return name, match.string.strip()
    return None


def _of_another_kernel(facts: Facts) -> Finding | None:
    """Return that modules were built for another kernel; None if not."""
    built_for = _built_for(facts)
    kernels = {name: text.partition(" ")[0] for name, text in built_for.items()}
    wrong = {name: kernel for name, kernel in kernels.items() if kernel != facts.release}
    if wrong:
        taken = "pciedma" in facts.loaded  # which kernels with versions of symbols do, where nothing else differs
        return (note if taken else problem)(
            f"built for another kernel: {', '.join(wrong)}",
            f"They were built for {', '.join(sorted(set(wrong.values())))}, but the running kernel is {facts.release}.",
            *_rebuild(facts),
        )
    if refused := _refused_by_kernel(facts, built_for):
        name, line = refused
        return problem(f"the kernel has refused {name}: built for another kernel", f'The log says: "{line}".',
                       *_rebuild(facts), f"sudo modprobe {name}")
    return None


def _damaged(facts: Facts, known: set[str]) -> list[str]:
    """Return the modules that modprobe or DKMS has, but of which there is no file, or one without content."""
    expected = {*facts.installed, *kernel_modules.module_names(known), *facts.installed_by_dkms}
    whole = {name for name, file in facts.installed.items() if facts.system.content(file, 1) != b""}
    return sorted(expected - whole)


def check_installed(facts: Facts) -> list[Finding]:
    """Are there modules for the running kernel, and does modprobe know them?"""
    if not facts.installed:
        return [_absent(facts)]
    known = kernel_modules.known_to_modprobe(facts.system, facts.release)
    if damaged := _damaged(facts, known):
        return [_until_next_start(facts, problem(
            f"gone or empty: {', '.join(damaged)}",
            "The modules were installed, but their files are not there any more, or there is nothing in them.",
            *_rebuild(facts),
        ))]
    unknown = [name for name, file in facts.installed.items() if file not in known]
    if unknown:
        return [problem(
            f"modprobe does not know {', '.join(unknown)}",
            f"The files are there, but not in the list {facts.modules_folder}/modules.dep.",
            f"sudo depmod {facts.release}",
        )]
    return [_of_another_kernel(facts) or ok(f"for {facts.release}: {', '.join(facts.installed)}")]


def _secure_boot(facts: Facts) -> bool:
    content = facts.system.content(_SECURE_BOOT)
    return content is not None and content[4:5] == b"\x01"


def _demanded_by(facts: Facts) -> str | None:
    """Return what makes the kernel refuse modules without a valid signature; None: nothing."""
    lockdown = facts.system.text("/sys/kernel/security/lockdown")
    if _secure_boot(facts) and (lockdown is None or "[none]" not in lockdown):
        return "Secure Boot"
    if lockdown and "[none]" not in lockdown:
        return "lockdown"
    enforced = facts.system.text("/sys/module/module/parameters/sig_enforce")
    return "module.sig_enforce" if enforced == "Y" else None


def _asked_of_mokutil(facts: Facts) -> Output | None:
    return facts.system.run(["mokutil", "--test-key", facts.certificate])


def _enrolled(facts: Facts) -> str:
    """Return how the machine stands to DKMS's key: ``yes``, ``no``, ``pending`` or ``unknown``."""
    output = _asked_of_mokutil(facts)
    text = output.text if output else ""
    return next((answer for words, answer in _MOKUTIL_ANSWERS.items() if words in text), "unknown")


def _by_mokutil(facts: Facts, option: str) -> str:
    return f"sudo mokutil {option} {shlex.quote(facts.certificate)}"


def _ways_to_trust(facts: Facts) -> tuple[str, ...]:
    """Return how to make the kernel trust DKMS's key; without Secure Boot it does not look at the owner's keys."""
    if _secure_boot(facts):
        return (_by_mokutil(facts, "--import"), *_ENROL_AT_START)
    return (
        "# without Secure Boot the kernel takes no keys of yours: no longer demand signatures",
        "grep -n -e sig_enforce -e lockdown= /etc/default/grub /etc/default/grub.d/*",
        "# remove what it finds, then",
        "sudo update-grub && sudo reboot",
    )


def _unsigned(facts: Facts, demanded_by: str, names: list[str]) -> Finding:
    openssl = () if facts.system.has("openssl") else ("sudo apt install openssl",)
    return problem(
        f"{demanded_by} demands signed modules; {', '.join(names)}: not signed",
        "The kernel refuses modules without a signature, and DKMS built these before it had a key or without one"
        f"{': to make one it needs openssl' if openssl else ''}.",
        *(openssl if _secure_boot(facts) else ()),
        *(_dkms(facts, rebuild=True) if _secure_boot(facts) else ()),
        *(_ways_to_trust(facts) if _enrolled(facts) != "yes" else ()),
    )


def _untrusted(facts: Facts, demanded_by: str) -> Finding:
    return problem(
        f"{demanded_by} demands signed modules, and the key of ours is not trusted",
        f"DKMS signed the modules with its key {facts.certificate}, which is not enrolled as a key of this machine's "
        "owner.",
        *_ways_to_trust(facts),
    )


def _perhaps_another_key(facts: Facts, line: str) -> Finding:
    return note(
        "the kernel has refused some module's signature",
        f'The log says: "{line.strip()}". DKMS\'s key is enrolled; if it was one of ours, another key signed it.',
        *_dkms(facts, rebuild=True),
    )


def _last_refused(facts: Facts, texts: tuple[str, ...]) -> str | None:
    return next((line for text in texts if (line := facts.last_logged(text))), None)


def _judge_key(facts: Facts, demanded_by: str) -> Finding:
    enrolled = _enrolled(facts)
    refused = _last_refused(facts, _UNTRUSTED)
    if enrolled == "pending":
        return problem("the key waits to be enrolled", "mokutil has noted it; the firmware asks at the next start.",
                       *_ENROL_AT_START)
    if enrolled == "yes":
        good = ok(f"signed, as {demanded_by} demands; the key is enrolled")
        return _perhaps_another_key(facts, refused) if refused else good
    if enrolled == "no" or refused:
        return _untrusted(facts, demanded_by)
    return note(
        f"{demanded_by} demands signed modules; whether the key is trusted is not known",
        "If modprobe answers \"Key was rejected by service\" or \"Operation not permitted\", the key is not enrolled.",
        _by_mokutil(facts, "--test-key"),
    )


def check_signature(facts: Facts) -> list[Finding]:
    """Would the kernel refuse the modules for their signature?"""
    if "pciedma" in facts.loaded:
        return [ok("the kernel has taken the modules")]
    demanded_by = _demanded_by(facts)
    if demanded_by is None:
        return [ok("not demanded")]
    signed = {name: kernel_modules.is_signed(facts.system, file) for name, file in facts.installed.items()}
    if _last_refused(facts, _UNSIGNED):
        signed = {name: bool(value) for name, value in signed.items()}
    unsigned = [name for name, value in signed.items() if value is False]
    return [_unsigned(facts, demanded_by, unsigned) if unsigned else _judge_key(facts, demanded_by)]


def _ids_are_right(value: str) -> bool:
    return _IDS.fullmatch(value) is not None


def _size_is_right(value: str) -> bool:
    match = _SIZE.fullmatch(value)
    if match is None:
        return False
    size = int(match[1], 16 if match[1][:2].lower() == "0x" else 10)
    return size << 10 * " KMGTP".index(match[2].upper() or " ") <= PCIEDMA_SIZE_UNKNOWN


#: What the driver can read, and how to say it right.
_OPTIONS: dict[str, tuple[Callable[[str], bool], str]] = {
    "ids": (_ids_are_right, "ids=vvvv:dddd, hexadecimal without 0x, or vvvv:dddd:ssss:ssss with the subsystem's; "
            "several with a comma and no space between them"),
    "memory_size": (_size_is_right, "memory_size= and a number of bytes up to 2^63-1, decimal or 0x and hexadecimal, "
                    "with K, M, G, T, P or nothing behind it, and no space"),
}


def _bad_options(line: kernel_modules.ConfigLine) -> Iterator[Finding]:
    """Return a finding for each option of a line that the driver would refuse."""
    for name, (is_right, right) in _OPTIONS.items():
        for value in line.options(name):
            if not is_right(value):
                yield problem(
                    f"{line}: {name}={value} is wrong",
                    f"The module refuses to load with it. Right is {right}.",
                    f"sudoedit {line.file}",
                    f"sudo modprobe {line.words[1]}",
                )


def check_options(facts: Facts) -> list[Finding]:
    """Does modprobe's configuration give options that the driver can read?"""
    lines = [line for line in facts.configuration if line.words[0] == "options"]
    findings = [finding for line in lines for finding in _bad_options(line)]
    return findings or [ok(f"{len(lines)} line(s) for our modules in modprobe.d" if lines else "none given")]


def _is_stale(facts: Facts, name: str) -> bool:
    """Whether a loaded module is another than the installed one, as far as both can be told.

    Sources alone do not tell: the version is none of theirs.
    """
    for what in ("srcversion", "version"):
        inside = facts.system.text(f"/sys/module/{name}/{what}")
        outside = kernel_modules.field(facts.system, facts.installed[name], what) if inside else None
        if inside and outside and inside != outside:
            return True
    return False


def _stale(facts: Facts, names: list[str]) -> Finding:
    back_ends = [name for name in facts.loaded if name != "pciedma"]
    inside = facts.system.text("/sys/module/pciedma/version") or "unknown"
    outside = kernel_modules.field(facts.system, facts.installed.get("pciedma", ""), "version") or "unknown"
    return problem(
        f"the kernel has another {', '.join(names)} than is installed (loaded {inside}, installed {outside})",
        "The modules were updated since they were loaded. Close the programs that use the cards (fuser names them), "
        "then load the new ones; a reboot does the same.",
        "sudo fuser -v /dev/pciedma*",
        f"sudo modprobe -r {' '.join([*back_ends, 'pciedma'])}",
        f"sudo modprobe -a {' '.join(back_ends or ['pciedma'])}",
    )


def check_version(facts: Facts) -> list[Finding]:
    """Do the kernel, the disk and Python have the same version?"""
    if "pciedma" not in facts.loaded:
        return [ok(f"Python {__version__}; no module is loaded")]
    stale = [name for name in facts.loaded if name in facts.installed and _is_stale(facts, name)]
    if stale:
        return [_stale(facts, stale)]
    version = facts.system.text("/sys/module/pciedma/version")
    if version and version != __version__:
        return [note(
            f"module {version}, Python {__version__}",
            "They work together as far as the interface's version allows; better have the same.",
            f"{_NEWER} python3-pciedma",
        )]
    return [ok(f"module and Python {__version__}")]
