"""The command ``pciedma doctor`` on made-up machines: each cause, and that it is silent without it."""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import os
import shlex
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import pciedma
from pciedma.tool import doctor_command
from pciedma.tool.facts import Facts
from pciedma.tool.findings import Check, Finding, Status, diagnose, ok, problem
from pciedma.tool.system import Output, Owner

from .made_up_root import (
    BUS_MASTER,
    CARD_GROUP,
    MAGIC,
    MODULES,
    REGISTERS_GROUP,
    RELEASE,
    SECURE_BOOT,
    SIGNATURE,
    UDEV_RULE,
    USER_UID,
    MadeUpRoot,
    module_content,
)

ADDRESS = "0000:03:00.0"
BIND = f"echo {ADDRESS} | sudo tee /sys/bus/pci/drivers/pciedma_xdma/bind"
MOK = "/var/lib/dkms/mok.pub"
SIGNED = module_content() + SIGNATURE
KERNEL_OF_DEBIAN = ("sudo apt install linux-image-amd64 linux-headers-amd64", "sudo reboot")


@pytest.fixture
def root(tmp_path: Path) -> MadeUpRoot:
    """A machine without anything of ours."""
    return MadeUpRoot(tmp_path)


@pytest.fixture
def well(root: MadeUpRoot) -> MadeUpRoot:
    """A machine with a card that works."""
    root.all_well()
    return root


def found(root: MadeUpRoot, check: str, device: str | None = None) -> Finding:
    """The check's only finding."""
    results = diagnose(doctor_command.CHECKS, Facts(root.system(), device))
    finding, = (result.finding for result in results if result.check == check)
    return finding


def checks(root: MadeUpRoot) -> list[str]:
    """The names of the checks that find something."""
    return [result.check for result in diagnose(doctor_command.CHECKS, Facts(root.system()))]


def packed(content: bytes, suffix: str) -> bytes:
    """A module's file as the suffix says."""
    if suffix.endswith(".xz"):
        return lzma.compress(content)
    return gzip.compress(content) if suffix.endswith(".gz") else content


def run(root: MadeUpRoot, *, as_json: bool = False, device: str | None = None) -> int:
    return doctor_command.run(argparse.Namespace(json=as_json, device=device), root.system())


class TestModules:
    def test_installed_is_ok(self, well: MadeUpRoot) -> None:
        finding = found(well, "modules")
        assert finding == ok(f"for {RELEASE}: pciedma, pciedma_capric, pciedma_xdma")

    def test_without_sources_names_the_package(self, root: MadeUpRoot) -> None:
        root.headers()
        finding = found(root, "modules")
        assert (finding.status, finding.steps) == (Status.PROBLEM, ("sudo apt install pciedma-dkms",))

    def test_without_sources_and_headers_names_both_packages(self, root: MadeUpRoot) -> None:
        root.write(f"{MODULES}/modules.dep")
        assert found(root, "modules").steps == (f"sudo apt install linux-headers-{RELEASE} pciedma-dkms",)

    @pytest.mark.parametrize("dangling", [False, True])
    def test_without_headers_names_their_package(self, root: MadeUpRoot, dangling: bool) -> None:
        root.sources()
        root.write(f"{MODULES}/modules.dep")
        if dangling:
            root.link(f"{MODULES}/build", "/usr/src/nowhere")
        finding = found(root, "modules")
        assert finding.summary == f"no kernel headers for {RELEASE}"
        assert "build leads nowhere" in finding.cause
        assert finding.steps[:2] == (f"sudo apt install linux-headers-{RELEASE}", f"sudo dkms autoinstall -k {RELEASE}")

    def test_without_headers_that_apt_finds_says_to_take_the_present_kernel(self, root: MadeUpRoot) -> None:
        root.sources()
        root.write(f"{MODULES}/modules.dep")
        hint, *steps = found(root, "modules").steps[3:]
        assert hint.startswith("# if apt does not find them")
        assert tuple(steps) == KERNEL_OF_DEBIAN

    @pytest.mark.parametrize(("release", "kind"), [
        ("6.1.0-50-rt-amd64", "rt-amd64"), ("6.12.107+deb13-cloud-arm64", "cloud-arm64"),
        ("6.12.107+deb13-arm64-16k", "arm64-16k"), ("7.3-amd64", "amd64"),
    ])
    def test_without_headers_names_what_brings_those_of_later_kernels(
        self, root: MadeUpRoot, release: str, kind: str
    ) -> None:
        root.sources()
        root.boot(release)
        steps = found(root, "modules").steps
        assert steps[2] == f"# for later kernels to come with theirs: linux-headers-{kind}"
        assert steps[-2] == f"sudo apt install linux-image-{kind} linux-headers-{kind}"

    def test_without_headers_of_a_kernel_that_is_not_debians_names_the_architectures(self, root: MadeUpRoot) -> None:
        root.sources()
        root.boot("6.12.5-mine")
        steps = found(root, "modules").steps
        assert not any("later kernels" in step for step in steps)
        assert "linux-image-$(dpkg --print-architecture)" in steps[-2]

    def test_with_headers_that_may_not_be_looked_at_are_not_missed(self, root: MadeUpRoot) -> None:
        root.sources()
        root.write(f"{MODULES}/modules.dep")
        root.write("/root/linux/Makefile")
        root.link(f"{MODULES}/build", "/root/linux")
        with root.closed_to_all("/root"):
            assert found(root, "modules").summary == f"not built for the running kernel {RELEASE}"

    def test_in_a_folder_that_may_not_be_looked_at_is_a_note(self, root: MadeUpRoot) -> None:
        root.headers()
        root.sources()
        root.install()
        with root.closed_to_all("/lib/modules"):
            finding = found(root, "modules")
            assert run(root) == 1  # there is no card
        assert (finding.status, finding.summary) == (Status.NOTE, f"{MODULES} may not be read")
        assert finding.steps == ("sudo pciedma doctor",)

    @pytest.mark.parametrize("mark", ["/run/.containerenv", "/var/run/secrets/kubernetes.io/serviceaccount/token"])
    def test_of_the_host_in_a_container_are_well(self, root: MadeUpRoot, mark: str) -> None:
        root.write(mark)
        root.load("pciedma_xdma")
        assert found(root, "modules") == ok("of the host, whose kernel has pciedma, pciedma_xdma")

    def test_not_loaded_by_the_host_of_a_container_is_the_hosts_problem(self, root: MadeUpRoot) -> None:
        root.write("/run/.containerenv")
        finding = found(root, "modules")
        assert (finding.status, finding.steps) == (Status.PROBLEM, ("# on the host: pciedma doctor",))

    def test_whose_files_are_gone_are_built_and_installed_anew(self, root: MadeUpRoot) -> None:
        root.headers()
        root.sources()
        root.link(f"/var/lib/dkms/pciedma/kernel-{RELEASE}-x86_64", f"/var/lib/dkms/pciedma/0.1.0/{RELEASE}/x86_64")
        finding = found(root, "modules")
        assert "their files are gone" in finding.cause
        assert finding.steps == (
            f"sudo dkms build --force pciedma/0.1.0 -k {RELEASE}",
            f"sudo dkms install --force pciedma/0.1.0 -k {RELEASE}",
        )

    def test_without_headers_where_nothing_is_built_by_itself_says_install(self, root: MadeUpRoot) -> None:
        root.sources()
        root.write(f"{MODULES}/modules.dep")
        root.write("/etc/dkms/no-autoinstall")
        assert found(root, "modules").steps[1] == f"sudo dkms install pciedma/0.1.0 -k {RELEASE}"

    def test_of_a_kernel_that_was_removed_says_reboot(self, root: MadeUpRoot) -> None:
        root.sources()
        finding = found(root, "modules")
        assert finding.summary == f"{MODULES} is not there"
        assert "removed or replaced" in finding.cause
        assert finding.steps[0] == "sudo reboot"
        assert not any(f"linux-headers-{RELEASE}" in step for step in finding.steps)

    def test_not_built_without_a_dkms_conf_is_not_installed(self, root: MadeUpRoot) -> None:
        root.headers()
        root.write("/usr/src/pciedma-0.1.0/core/module.o")
        root.write("/var/lib/dkms/pciedma/0.1.0/build/make.log", "error: old\n")
        assert found(root, "modules").summary == "pciedma is not installed"

    def test_not_built_by_itself_names_the_file_that_keeps_dkms_from_it(self, root: MadeUpRoot) -> None:
        root.headers()
        root.sources()
        assert "nobody has built" in found(root, "modules").cause
        root.write("/etc/dkms/no-autoinstall")
        finding = found(root, "modules")
        assert "/etc/dkms/no-autoinstall keeps DKMS from building" in finding.cause
        assert finding.steps[0] == f"sudo dkms install pciedma/0.1.0 -k {RELEASE}"
        assert finding.steps[1].startswith("#")
        assert finding.steps[2:] == ("sudo rm /etc/dkms/no-autoinstall",)

    def test_not_built_names_the_newest_sources(self, root: MadeUpRoot) -> None:
        root.headers()
        root.sources("0.9.0")
        root.sources("0.10.0")
        finding = found(root, "modules")
        assert finding.summary == f"not built for the running kernel {RELEASE}"
        assert finding.steps == (f"sudo dkms install pciedma/0.10.0 -k {RELEASE}",)

    def test_built_for_other_kernels_names_them(self, root: MadeUpRoot) -> None:
        root.headers()
        root.sources()
        root.install(release="6.1.0-9-amd64")
        root.install(release="6.11.0-amd64")
        assert found(root, "modules").summary.startswith("built only for 6.1.0-9-amd64, 6.11.0-amd64, not for")

    def test_failed_build_quotes_the_logs_last_error(self, root: MadeUpRoot) -> None:
        root.headers()
        root.sources()
        log = "/var/lib/dkms/pciedma/0.1.0/build/make.log"
        root.write(log, f"DKMS make.log for pciedma-0.1.0 for kernel {RELEASE} (x86_64)\n"
                        "core/a.c:1:2: error: first\ncore/b.c:3:4: error: last\n"
                        "make[1]: *** [Makefile:2: all] Error 2\n")
        finding = found(root, "modules")
        assert finding.summary == f"the build for {RELEASE} failed"
        assert f'{log} says: "core/b.c:3:4: error: last"' in finding.cause
        assert finding.steps[0] == f"less {log}"

    def test_failed_build_is_known_after_another_kernels(self, root: MadeUpRoot) -> None:
        root.headers()
        root.sources()
        folder = "/var/lib/dkms/pciedma/0.1.0"
        root.write(f"{folder}/failed-{RELEASE}.log",
                   f"DKMS make.log for pciedma-0.1.0 for kernel {RELEASE} (x86_64)\nerror: kept\n")
        root.write(f"{folder}/build/make.log",
                   "DKMS make.log for pciedma-0.1.0 for kernel 6.1.0-9-amd64 (x86_64)\nerror: other\n")
        assert f'{folder}/failed-{RELEASE}.log says: "error: kept"' in found(root, "modules").cause

    def test_failed_build_for_another_kernel_is_not_the_cause(self, root: MadeUpRoot) -> None:
        root.headers()
        root.sources()
        root.write("/var/lib/dkms/pciedma/0.1.0/build/make.log",
                   "DKMS make.log for pciedma-0.1.0 for kernel 5.10.0 (x86_64)\nerror: old\n")
        assert found(root, "modules").summary.startswith("not built")

    @pytest.mark.parametrize("release", ["8.0.1-amd64", "10.1.0-1-amd64"])
    def test_of_a_kernel_newer_than_the_sources_say_so(self, root: MadeUpRoot, release: str) -> None:
        root.sources()
        root.boot(release)
        finding = found(root, "modules")
        assert finding.summary == f"pciedma 0.1.0 does not know the kernel {release}"
        assert finding.steps[0] == "sudo apt update && sudo apt install pciedma-dkms"
        assert finding.steps[-2:] == KERNEL_OF_DEBIAN

    @pytest.mark.parametrize("release", ["6.0.0-6-amd64", "5.10.0-30-amd64"])
    def test_of_a_kernel_older_than_the_sources_say_so(self, root: MadeUpRoot, release: str) -> None:
        root.sources()
        root.boot(release)
        finding = found(root, "modules")
        assert finding.summary == f"the kernel {release} is older than 6.1"
        assert finding.steps[-2:] == KERNEL_OF_DEBIAN
        assert not any("dkms" in step for step in finding.steps)

    @pytest.mark.parametrize("release", ["6.1.0-50-amd64", "6.18.2+deb14-rt-amd64", "7.0.1-amd64"])
    def test_of_a_kernel_that_the_sources_know_is_only_not_built(self, root: MadeUpRoot, release: str) -> None:
        root.sources()
        root.boot(release)
        root.write(f"/lib/modules/{release}/build/Makefile")
        assert found(root, "modules").summary == f"not built for the running kernel {release}"

    @pytest.mark.parametrize("line", ["# CONFIG_PCI_MSI is not set", "CONFIG_PCI_MSI=n"])
    @pytest.mark.parametrize("file", [
        f"{MODULES}/build/include/config/auto.conf", f"{MODULES}/build/.config", f"/boot/config-{RELEASE}",
    ])
    def test_of_a_kernel_without_a_needed_option_names_it(self, root: MadeUpRoot, file: str, line: str) -> None:
        root.headers()
        root.sources()
        others = "CONFIG_DMA_SHARED_BUFFER=y\nCONFIG_EVENTFD=y\n"
        root.write(file, f"{others}CONFIG_PCI_MSI=y\n")
        assert found(root, "modules").summary.startswith("not built")
        root.write(file, f"{others}{line}\n")
        finding = found(root, "modules")
        assert finding.summary == f"the kernel {RELEASE} lacks CONFIG_PCI_MSI"
        assert finding.steps[-2:] == KERNEL_OF_DEBIAN

    def test_of_a_kernel_with_conditions_that_are_not_understood_is_only_not_built(self, root: MadeUpRoot) -> None:
        root.headers()
        root.write("/usr/src/pciedma-0.1.0/dkms.conf", 'BUILD_EXCLUSIVE_KERNEL="(*"\n')
        assert found(root, "modules").summary.startswith("not built")

    def test_of_a_kernel_whose_headers_are_too_old_says_so(self, root: MadeUpRoot) -> None:
        root.headers()
        root.sources()
        root.write(f"{MODULES}/source/include/linux/kernel.h")
        finding = found(root, "modules")
        assert finding.summary == f"the headers of {RELEASE} have no linux/cleanup.h"
        assert "6.1.79" in finding.cause
        assert finding.steps[-2:] == KERNEL_OF_DEBIAN
        root.write(f"{MODULES}/source/include/linux/cleanup.h")
        assert found(root, "modules").summary.startswith("not built")

    def test_of_a_kernel_without_module_support_says_so(self, root: MadeUpRoot) -> None:
        (root.folder / "proc/modules").unlink()
        assert found(root, "modules").summary == f"the kernel {RELEASE} cannot load modules"

    def test_loaded_from_elsewhere_is_a_note(self, root: MadeUpRoot) -> None:
        root.load("pciedma_xdma")
        assert found(root, "modules").status == Status.NOTE

    def test_loaded_though_the_build_failed_is_a_problem_of_the_next_start(self, root: MadeUpRoot) -> None:
        root.load("pciedma_xdma")
        root.headers()
        root.sources()
        root.write("/var/lib/dkms/pciedma/0.1.0/build/make.log",
                   f"DKMS make.log for pciedma-0.1.0 for kernel {RELEASE} (x86_64)\ncore/a.c:1:2: error: bad\n")
        finding = found(root, "modules")
        assert (finding.status, finding.summary) == (Status.PROBLEM, f"the build for {RELEASE} failed")
        assert finding.cause.endswith("The modules in the kernel work until the next start.")
        assert run(root) == 1

    @pytest.mark.parametrize(("kernel", "summary"), [
        (RELEASE, f"not built for the running kernel {RELEASE}"),
        ("8.0.1-amd64", "pciedma 0.1.0 does not know the kernel 8.0.1-amd64"),
        ("6.13.0-amd64", "no kernel headers for 6.13.0-amd64"),
    ])
    def test_loaded_but_not_built_is_a_problem_of_the_next_start(
        self, root: MadeUpRoot, kernel: str, summary: str
    ) -> None:
        root.load("pciedma_xdma")
        root.headers()
        root.sources()
        root.boot(kernel)
        finding = found(root, "modules")
        assert (finding.status, finding.summary) == (Status.PROBLEM, summary)
        assert finding.cause.endswith("The modules in the kernel work until the next start.")

    def test_not_loaded_and_not_built_does_not_speak_of_the_next_start(self, root: MadeUpRoot) -> None:
        root.headers()
        root.sources()
        assert "next start" not in found(root, "modules").cause

    @pytest.mark.parametrize("suffix", [".ko", ".ko.xz"])
    def test_built_for_another_kernel_says_rebuild(self, root: MadeUpRoot, suffix: str) -> None:
        root.headers()
        root.sources()
        root.install(packed(module_content(release="6.1.0-9-amd64"), suffix), suffix)
        finding = found(root, "modules")
        assert finding.status == Status.PROBLEM
        assert finding.summary == "built for another kernel: pciedma, pciedma_capric, pciedma_xdma"
        assert f"built for 6.1.0-9-amd64, but the running kernel is {RELEASE}" in finding.cause
        assert finding.steps == (
            f"sudo dkms build --force pciedma/0.1.0 -k {RELEASE}",
            f"sudo dkms install --force pciedma/0.1.0 -k {RELEASE}",
        )

    def test_built_for_another_kernel_without_headers_gets_them_first(self, root: MadeUpRoot) -> None:
        root.sources()
        root.install(module_content(release="6.1.0-9-amd64"))
        assert found(root, "modules").steps[0] == f"sudo apt install linux-headers-{RELEASE}"

    def test_built_for_another_kernel_but_taken_is_a_note(self, well: MadeUpRoot) -> None:
        well.install(module_content(release="6.1.0-9-amd64"))
        assert found(well, "modules").status == Status.NOTE

    @pytest.mark.parametrize("line", [
        f"[ 5.0] pciedma_xdma: version magic '{RELEASE} SMP mod_unload ' should be '{RELEASE} SMP preempt mod_unload '",
        "[ 5.0] pciedma_xdma: disagrees about version of symbol module_layout",
    ])
    def test_refused_as_another_kernels_in_the_log_says_rebuild(self, root: MadeUpRoot, line: str) -> None:
        root.headers()
        root.sources()
        root.install()
        root.log(f"{line}\n[ 6.0] other\n")
        finding = found(root, "modules")
        assert finding.summary == "the kernel has refused pciedma_xdma: built for another kernel"
        assert line in finding.cause
        assert finding.steps[0] == f"sudo dkms build --force pciedma/0.1.0 -k {RELEASE}"
        assert finding.steps[-1] == "sudo modprobe pciedma_xdma"

    @pytest.mark.parametrize("line", [
        f"pciedma_xdma: version magic '6.1.0 SMP ' should be '{RELEASE} {MAGIC}'",  # mended since
        "pciedma_xdma: disagrees about version of symbol pciedma_card_register",  # the core is another version's
        "nvidia: disagrees about version of symbol module_layout",
        "pciedma_gone: disagrees about version of symbol module_layout",  # it is not there any more
        "pciedma: disagrees about version of symbol module_layout",  # it is loaded, so mended
    ])
    def test_refused_in_the_log_for_what_is_no_cause_now_is_ok(self, root: MadeUpRoot, line: str) -> None:
        root.install()
        root.load()
        root.log(f"{line}\n")
        assert found(root, "modules").status == Status.OK

    def test_unknown_to_modprobe_names_depmod(self, root: MadeUpRoot) -> None:
        root.install()
        root.write(f"{MODULES}/modules.dep", "updates/dkms/pciedma.ko:\n")
        finding = found(root, "modules")
        assert finding.summary == "modprobe does not know pciedma_capric, pciedma_xdma"
        assert finding.steps == (f"sudo depmod {RELEASE}",)

    @pytest.mark.parametrize("suffix", [".ko.xz", ".ko.gz", ".ko.zst"])
    def test_compressed_is_ok(self, root: MadeUpRoot, suffix: str) -> None:
        root.install(packed(module_content(), suffix), suffix)
        assert found(root, "modules").status == Status.OK

    @pytest.mark.parametrize("content", [None, b""])
    def test_gone_or_empty_though_modprobe_has_it_says_rebuild(self, well: MadeUpRoot, content: bytes | None) -> None:
        name = f"{MODULES}/updates/dkms/pciedma_xdma.ko"
        (well.folder / name.lstrip("/")).unlink()
        if content is not None:
            well.write(name, content)
        finding = found(well, "modules")
        assert (finding.status, finding.summary) == (Status.PROBLEM, "gone or empty: pciedma_xdma")
        assert finding.cause.endswith("until the next start.")
        assert finding.steps == tuple(f"sudo dkms {verb} --force pciedma/0.1.0 -k {RELEASE}"
                                      for verb in ("build", "install"))

    def test_gone_since_when_depmod_was_run_says_rebuild(self, well: MadeUpRoot) -> None:
        built = f"/var/lib/dkms/pciedma/0.1.0/{RELEASE}/x86_64"
        well.link(f"/var/lib/dkms/pciedma/kernel-{RELEASE}-x86_64", built)
        for name in ("pciedma.ko", "pciedma_xdma.ko.xz", "pciedma_edu.ko", "other.ko"):
            well.write(f"{built}/module/{name}", "built")
        well.write(f"/var/lib/dkms/pciedma/kernel-{RELEASE}-rt-x86_64/module/pciedma_other.ko", "another kernel's")
        assert found(well, "modules").summary == "gone or empty: pciedma_edu"

    def test_problem_keeps_what_follows_from_it_quiet(self, root: MadeUpRoot) -> None:
        finding = found(root, "nodes")
        assert finding == Finding(Status.SKIPPED, "first mend: modules")


class TestSignature:
    @pytest.fixture
    def secure(self, root: MadeUpRoot) -> MadeUpRoot:
        """Signed modules, Secure Boot on, DKMS's key there."""
        root.headers()
        root.sources()
        root.install(SIGNED)
        root.write(SECURE_BOOT, b"\x06\0\0\0\x01")
        root.write("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
        self.mokutil(root, "cannot be tested", 255)
        return root

    @staticmethod
    def mokutil(root: MadeUpRoot, answer: str, status: int = 0, certificate: str = MOK) -> None:
        root.outputs[f"mokutil --test-key {certificate}"] = Output(status, f"{certificate} {answer}\n")

    def test_not_demanded_is_ok(self, root: MadeUpRoot) -> None:
        root.install()
        root.write(SECURE_BOOT, b"\x06\0\0\0\x00")
        root.write("/sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
        root.write("/sys/module/module/parameters/sig_enforce", "N\n")
        assert found(root, "signature") == ok("not demanded")

    @pytest.mark.parametrize(("value", "status"), [(b"\x00", Status.OK), (b"\x01", Status.PROBLEM)])
    def test_without_sight_of_lockdown_is_as_the_firmware_says(
        self, root: MadeUpRoot, value: bytes, status: Status
    ) -> None:
        root.install()
        root.write(SECURE_BOOT, b"\x06\0\0\0" + value)
        assert found(root, "signature").status == status

    def test_of_secure_boot_on_a_kernel_that_does_not_mind_is_ok(self, secure: MadeUpRoot) -> None:
        secure.install()
        secure.write("/sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
        assert found(secure, "signature") == ok("not demanded")

    def test_of_loaded_modules_is_ok(self, secure: MadeUpRoot) -> None:
        secure.load()
        assert found(secure, "signature") == ok("the kernel has taken the modules")

    @pytest.mark.parametrize("suffix", [".ko", ".ko.xz", ".ko.gz"])
    def test_missing_says_to_rebuild_and_enrol(self, secure: MadeUpRoot, suffix: str) -> None:
        secure.remove()
        secure.install(packed(module_content(), suffix), suffix)
        finding = found(secure, "signature")
        assert finding.summary.endswith("pciedma, pciedma_capric, pciedma_xdma: not signed")
        assert finding.steps[:4] == (
            f"sudo dkms build --force pciedma/0.1.0 -k {RELEASE}",
            f"sudo dkms install --force pciedma/0.1.0 -k {RELEASE}",
            f"sudo mokutil --import {MOK}",
            "sudo reboot",
        )

    @pytest.mark.parametrize("suffix", [".ko.xz", ".ko.gz"])
    def test_in_a_compressed_module_is_seen(self, secure: MadeUpRoot, suffix: str) -> None:
        secure.remove()
        secure.install(packed(SIGNED, suffix), suffix)
        self.mokutil(secure, "is already enrolled", 1)
        assert found(secure, "signature").status == Status.OK

    @pytest.mark.parametrize(("signer", "status"), [("", Status.PROBLEM), ("DKMS module signing key", Status.OK)])
    def test_in_a_zstd_module_is_asked_of_modinfo(self, root: MadeUpRoot, signer: str, status: Status) -> None:
        root.install(b"zstd", ".ko.zst")
        root.write("/sys/module/module/parameters/sig_enforce", "Y\n")
        self.mokutil(root, "is already enrolled", 1)
        for name in ("pciedma", "pciedma_capric", "pciedma_xdma"):
            file = f"{MODULES}/updates/dkms/{name}.ko.zst"
            root.outputs[f"modinfo -F signer {file}"] = Output(0, f"{signer}\n")
        assert found(root, "signature").status == status

    def test_in_a_zstd_module_without_modinfo_is_what_the_log_says(self, secure: MadeUpRoot) -> None:
        secure.remove()
        secure.install(b"zstd", ".ko.zst")
        assert found(secure, "signature").status == Status.NOTE
        secure.log("[ 9.1] Loading of unsigned module is rejected\n")
        assert found(secure, "signature").summary.endswith("not signed")

    def test_with_an_enrolled_key_is_ok(self, secure: MadeUpRoot) -> None:
        self.mokutil(secure, "is already enrolled", 1)
        assert found(secure, "signature").status == Status.OK

    def test_with_a_key_that_is_not_enrolled_says_how_to_enrol(self, secure: MadeUpRoot) -> None:
        self.mokutil(secure, "is not enrolled")
        finding = found(secure, "signature")
        assert finding.summary == "Secure Boot demands signed modules, and the key of ours is not trusted"
        assert finding.steps[:2] == (f"sudo mokutil --import {MOK}", "sudo reboot")

    @pytest.mark.parametrize(("files", "certificate"), [
        ({"framework.conf": "mok_certificate=/etc/dkms/my.der\n"}, "/etc/dkms/my.der"),
        ({"framework.conf": "# mok_certificate=/etc/dkms/my.der\n"}, MOK),
        ({"framework.conf": "mok_signing_key=/etc/dkms/my.key\nmok_certificate=\n"}, MOK),
        ({"framework.conf": "mok_certificate=/a\n", "framework.conf.d/b.conf": 'mok_certificate="/my keys/b.der"\n',
          "framework.conf.d/a.conf": "mok_certificate=/c\n", "framework.conf.d/z.off": "mok_certificate=/d\n"},
         "/my keys/b.der"),
        ({"framework.conf.d/a.conf": "mok_certificate='/k/${kernelver}.der' # mine\n"}, f"/k/{RELEASE}.der"),
    ])
    def test_with_a_key_of_the_users_own_names_its_certificate(
        self, secure: MadeUpRoot, files: dict[str, str], certificate: str
    ) -> None:
        for name, content in files.items():
            secure.write(f"/etc/dkms/{name}", content)
        self.mokutil(secure, "has no answer", 255, certificate)
        assert found(secure, "signature").steps == (f"sudo mokutil --test-key {shlex.quote(certificate)}",)
        self.mokutil(secure, "is not enrolled", 0, certificate)
        finding = found(secure, "signature")
        assert finding.cause.startswith(f"DKMS signed the modules with its key {certificate},")
        assert finding.steps[0] == f"sudo mokutil --import {shlex.quote(certificate)}"
        self.mokutil(secure, "is already enrolled", 1, certificate)
        assert found(secure, "signature").status == Status.OK

    def test_without_mokutil_is_not_known(self, secure: MadeUpRoot) -> None:
        secure.outputs.pop(f"mokutil --test-key {MOK}")
        assert found(secure, "signature").steps == (f"sudo mokutil --test-key {MOK}",)
        secure.log("[ 9.1] Loading of module with unavailable key is rejected\n")
        finding = found(secure, "signature")
        assert finding.status == Status.PROBLEM
        assert finding.steps[0] == f"sudo mokutil --import {MOK}"

    def test_missing_for_want_of_openssl_installs_it_first(self, secure: MadeUpRoot) -> None:
        secure.remove()
        secure.install()
        secure.missing = {"openssl"}
        finding = found(secure, "signature")
        assert finding.cause.endswith("without one: to make one it needs openssl.")
        assert finding.steps[0] == "sudo apt install openssl"

    def test_with_a_key_that_waits_says_to_reboot(self, secure: MadeUpRoot) -> None:
        self.mokutil(secure, "is already in the enrollment request", 1)
        finding = found(secure, "signature")
        assert (finding.status, finding.steps[0]) == (Status.PROBLEM, "sudo reboot")

    @pytest.mark.parametrize("line", [
        "Loading of module with unavailable key is rejected",
        "Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7",
    ])
    def test_refused_in_the_log_says_how_to_enrol(self, secure: MadeUpRoot, line: str) -> None:
        assert found(secure, "signature").status == Status.NOTE
        secure.log(f"[ 9.1] {line}\n")
        finding = found(secure, "signature")
        assert (finding.status, finding.steps[0]) == (Status.PROBLEM, f"sudo mokutil --import {MOK}")

    def test_refused_though_the_key_is_enrolled_is_a_note(self, secure: MadeUpRoot) -> None:
        self.mokutil(secure, "is already enrolled", 1)
        secure.log("[ 9.1] Loading of module with unavailable key is rejected\n")
        assert found(secure, "signature").status == Status.NOTE

    def test_demanded_without_secure_boot_points_at_the_command_line(self, root: MadeUpRoot) -> None:
        root.headers()
        root.sources()
        root.install()
        root.write("/sys/module/module/parameters/sig_enforce", "Y\n")
        finding = found(root, "signature")
        assert finding.summary.startswith("module.sig_enforce demands")
        assert "sudo update-grub && sudo reboot" in finding.steps
        assert not any("mokutil" in step for step in finding.steps)

    def test_problem_is_shown_in_place_of_not_loaded(self, secure: MadeUpRoot) -> None:
        self.mokutil(secure, "is not enrolled")
        secure.device(ADDRESS, "10ee:9038")
        assert found(secure, "loading") == Finding(Status.SKIPPED, "first mend: signature")


class TestOptions:
    @pytest.mark.parametrize("ids", ["10ee:abcd", "10EE:ABCD,10ee:1", "10ee:abcd:10ee:7,1:2", '"10ee:abcd"'])
    def test_right_ids_are_ok(self, root: MadeUpRoot, ids: str) -> None:
        root.write("/etc/modprobe.d/x.conf", f"# ours\noptions pciedma_xdma ids={ids} credits=0\n")
        assert found(root, "options").status == Status.OK

    @pytest.mark.parametrize("ids", ["", "10ee", "0x10ee:0xabcd", "10ee:abcd:1", "10ee:abcd,", "10ee:abcde"])
    def test_wrong_ids_name_the_line(self, root: MadeUpRoot, ids: str) -> None:
        root.write("/etc/modprobe.d/x.conf", f"# ours\noptions pciedma-xdma ids={ids}\n")
        finding = found(root, "options")
        assert finding.summary == f"/etc/modprobe.d/x.conf:2: ids={ids} is wrong"
        assert finding.steps == ("sudoedit /etc/modprobe.d/x.conf", "sudo modprobe pciedma_xdma")

    @pytest.mark.parametrize("size", [
        "0", "64M", "0x40000000", "8191P", "9223372036854775807", '"64k"', "64M credits=0",
    ])
    def test_right_size_is_ok(self, root: MadeUpRoot, size: str) -> None:
        root.write("/etc/modprobe.d/x.conf", f"options pciedma_xdma credits=1 memory_size={size}\n")
        assert found(root, "options").status == Status.OK

    @pytest.mark.parametrize("size", ["1.5G", "64 M", '"64 M"', "lots", "-1", "16E", "8192P", "", "0x", "M", "64MB",
                                      "\u0664M", "9223372036854775808"])
    def test_wrong_size_names_the_line(self, root: MadeUpRoot, size: str) -> None:
        root.write("/etc/modprobe.d/x.conf", f"options pciedma_xdma memory_size={size} credits=0\n")
        finding = found(root, "options")
        bare = size.strip('"')
        assert finding.summary == f"/etc/modprobe.d/x.conf:1: memory_size={bare} is wrong"
        assert "with K, M, G, T, P or nothing behind it, and no space" in finding.cause
        assert finding.steps == ("sudoedit /etc/modprobe.d/x.conf", "sudo modprobe pciedma_xdma")

    def test_of_other_modules_are_not_ours(self, root: MadeUpRoot) -> None:
        root.write("/etc/modprobe.d/x.conf", "options vfio-pci ids=wrong\n\n")
        assert found(root, "options") == ok("none given")


class TestLoading:
    @pytest.fixture
    def unloaded(self, root: MadeUpRoot) -> MadeUpRoot:
        root.install()
        root.device(ADDRESS, "10ee:9038")
        return root

    def test_of_what_is_loaded_is_ok(self, well: MadeUpRoot) -> None:
        assert found(well, "loading") == ok("pciedma, pciedma_xdma")

    def test_of_what_is_not_needed_is_not_missed(self, well: MadeUpRoot) -> None:
        assert "pciedma_capric" not in found(well, "loading").summary

    def test_not_loaded_says_modprobe(self, unloaded: MadeUpRoot) -> None:
        finding = found(unloaded, "loading")
        assert finding.summary == f"pciedma_xdma is not loaded, though {ADDRESS} (10ee:9038) is there"
        assert finding.steps == ("sudo modprobe pciedma_xdma",)

    def test_not_loaded_for_ids_that_the_user_added_says_modprobe(self, unloaded: MadeUpRoot) -> None:
        unloaded.device("0000:04:00.0", "1234:abcd")
        unloaded.write("/etc/modprobe.d/ids.conf", "alias pci:v00001234d0000ABCDsv*sd*bc*sc*i* pciedma-capric\n")
        results = diagnose(doctor_command.CHECKS, Facts(unloaded.system()))
        steps = [result.finding.steps for result in results if result.check == "loading"]
        assert steps == [("sudo modprobe pciedma_xdma",), ("sudo modprobe pciedma_capric",)]

    @pytest.mark.parametrize("line", [
        "blacklist pciedma_xdma", "blacklist pciedma-xdma", "install pciedma_xdma /bin/false",
        "install pciedma /bin/true",
    ])
    def test_forbidden_names_file_and_line(self, unloaded: MadeUpRoot, line: str) -> None:
        unloaded.write("/etc/modprobe.d/no.conf", f"# mine\n{line}\n")
        finding = found(unloaded, "loading")
        assert finding.cause.startswith("/etc/modprobe.d/no.conf:2 forbids it")
        assert finding.steps == ("sudo sed -i '2s/^/# /' /etc/modprobe.d/no.conf", "sudo modprobe pciedma_xdma")

    @pytest.mark.parametrize("line", [
        "# blacklist pciedma_xdma", "#blacklist pciedma_xdma", "blacklist pciedma_capric",
        "install pciedma_xdma /sbin/x",
    ])
    def test_not_forbidden_by_other_lines(self, unloaded: MadeUpRoot, line: str) -> None:
        unloaded.write("/etc/modprobe.d/no.conf", f"{line}\n")
        assert "forbids" not in found(unloaded, "loading").cause

    def test_forbidden_in_a_file_that_etc_hides_does_not_count(self, unloaded: MadeUpRoot) -> None:
        unloaded.write("/usr/lib/modprobe.d/no.conf", "blacklist pciedma_xdma\n")
        unloaded.write("/etc/modprobe.d/no.conf", "")
        assert "forbids" not in found(unloaded, "loading").cause

    @pytest.mark.parametrize("word", ["module_blacklist=a,pciedma_xdma", "modprobe.blacklist=pciedma"])
    def test_forbidden_at_boot_names_the_argument(self, unloaded: MadeUpRoot, word: str) -> None:
        unloaded.write("/proc/cmdline", f"quiet {word}\n")
        assert f"started with {word}," in found(unloaded, "loading").cause


class TestDriver:
    def test_bound_is_ok(self, well: MadeUpRoot) -> None:
        assert found(well, "driver") == ok(f"bound: {ADDRESS}")

    def test_foreign_says_how_to_take_the_card_over(self, root: MadeUpRoot) -> None:
        root.install()
        root.device(ADDRESS, "10ee:9038", driver="vfio-pci")
        finding = found(root, "driver")
        assert finding.summary == f"{ADDRESS} (10ee:9038) belongs to the driver vfio-pci"
        folder = f"/sys/bus/pci/devices/{ADDRESS}"
        assert finding.steps == (
            "sudo modprobe pciedma_xdma",
            f"echo pciedma_xdma | sudo tee {folder}/driver_override",
            f"echo {ADDRESS} | sudo tee {folder}/driver/unbind",
            f"echo {ADDRESS} | sudo tee /sys/bus/pci/drivers_probe",
        )

    def test_foreign_on_a_foreign_device_is_none_of_ours(self, well: MadeUpRoot) -> None:
        well.device("0000:00:02.0", "8086:1234", driver="i915")
        assert found(well, "driver").status == Status.OK

    @pytest.fixture
    def shared(self, root: MadeUpRoot) -> MadeUpRoot:
        """A device whose ids two back ends have."""
        root.install()
        root.write("/etc/modprobe.d/other.conf", "alias pci:v000010EEd00009038sv*sd*bc*sc*i* pciedma_other\n")
        return root

    @pytest.mark.parametrize("driver", ["pciedma_xdma", "pciedma_other", None])
    def test_ids_of_two_back_ends_are_noted_with_how_to_choose(self, shared: MadeUpRoot, driver: str | None) -> None:
        shared.load("pciedma_xdma", "pciedma_other")
        shared.device(ADDRESS, "10ee:9038", driver=driver)
        finding = next(result.finding for result in diagnose(doctor_command.CHECKS, Facts(shared.system()))
                       if result.check == "driver" and result.finding.status == Status.NOTE)
        who = driver or "none of them"
        assert finding.summary == f"{ADDRESS} has ids of pciedma_xdma and pciedma_other: 10ee:9038; {who} has it"
        choices = [step for step in finding.steps if step.startswith("# if it is one for")]
        others = [name for name in ("pciedma_xdma", "pciedma_other") if name != driver]
        assert choices == [f"# if it is one for {name}:" for name in others]
        for name in others:
            assert f"echo {name} | sudo tee /sys/bus/pci/devices/{ADDRESS}/driver_override" in finding.steps

    def test_device_with_ids_of_two_back_ends_names_both(self, shared: MadeUpRoot) -> None:
        shared.device(ADDRESS, "10ee:9038")
        assert found(shared, "device", ADDRESS) == ok(f"{ADDRESS} has ids of pciedma_xdma and pciedma_other: 10ee:9038")

    def test_card_that_two_back_ends_declined_quotes_each(self, shared: MadeUpRoot) -> None:
        shared.load("pciedma_xdma", "pciedma_other")
        shared.device(ADDRESS, "10ee:9038")
        said = [f"[ 5.0] {name} {ADDRESS}: not a card of mine" for name in ("pciedma_xdma", "pciedma_other")]
        shared.log("\n".join(said))
        causes = [result.finding.cause for result in diagnose(doctor_command.CHECKS, Facts(shared.system()))
                  if result.check == "driver" and result.finding.status == Status.PROBLEM]
        assert [line in cause for line, cause in zip(said, causes, strict=True)] == [True, True]

    def test_one_back_end_of_two_that_is_loaded_is_enough(self, shared: MadeUpRoot) -> None:
        shared.load("pciedma_other")
        shared.device(ADDRESS, "10ee:9038")
        assert found(shared, "loading").status == Status.OK

    @pytest.fixture
    def declined(self, root: MadeUpRoot) -> MadeUpRoot:
        root.install()
        root.load("pciedma_xdma")
        root.device(ADDRESS, "10ee:9038")
        return root

    def test_declined_quotes_the_log(self, declined: MadeUpRoot) -> None:
        line = f"[ 5.0] pciedma_xdma {ADDRESS}: not an XDMA card: no BAR with its identifiers where it has to be"
        declined.log(f"{line}\n[ 6.0] pciedma_xdma 0000:09:00.0: not an XDMA card: other\n")
        assert f'declined it: "{line}"' in found(declined, "driver").cause

    def test_declined_without_a_readable_log_says_dmesg(self, declined: MadeUpRoot) -> None:
        declined.log(None)
        finding = found(declined, "driver")
        assert (finding.status, finding.steps[0]) == (Status.PROBLEM, "sudo dmesg | grep pciedma")
        assert "unbound by hand" in finding.cause
        assert finding.steps[-1] == BIND

    def test_declined_is_read_from_the_journal_if_dmesg_is_forbidden(self, declined: MadeUpRoot) -> None:
        declined.log(None)
        line = f"pciedma_xdma {ADDRESS}: not an XDMA card"
        declined.outputs["journalctl -k -b -q --no-pager -o cat"] = Output(0, f"{line}\n")
        assert line in found(declined, "driver").cause

    @pytest.mark.parametrize("line", [
        "not an XDMA card: no BAR with its identifiers where it has to be",
        "XDMA cores before 2016.1 have no poll mode",
        "XDMA core in BAR1: 0 H2C, 0 C2H channels",
        "not a strange card: seen in add-a-card.md",
        "not a working xdma card: its registers read all ones",
    ])
    def test_declined_is_known_by_what_drivers_say(self, declined: MadeUpRoot, line: str) -> None:
        declined.log(f"[ 5.0] pciedma_xdma {ADDRESS}: {line}\n[ 6.0] pciedma_xdma {ADDRESS}: enabling device\n")
        assert f"declined it: \"[ 5.0] pciedma_xdma {ADDRESS}: {line}\"" in found(declined, "driver").cause

    @pytest.mark.parametrize("after", ["", f"[ 6.0] pciedma_xdma {ADDRESS}: C2H channel 0: error reading\n"])
    def test_unbound_by_hand_says_bind(self, declined: MadeUpRoot, after: str) -> None:
        declined.log(f"[ 5.0] pciedma_xdma {ADDRESS}: xdma card is pciedma0\n{after}")
        assert found(declined, "driver").steps == (BIND,)

    @pytest.mark.parametrize("line", [
        f"pciedma_xdma: probe of {ADDRESS} failed with error -12",
        f"pciedma_xdma {ADDRESS}: probe with driver pciedma_xdma failed with error -5",
    ])
    def test_failed_is_not_declined(self, declined: MadeUpRoot, line: str) -> None:
        declined.log(f"[ 4.0] pciedma_xdma {ADDRESS}: XDMA core in BAR1: 1 H2C, 1 C2H channels\n[ 5.0] {line}\n")
        finding = found(declined, "driver")
        assert finding.cause.startswith(f'The driver could not start it: "[ 5.0] {line}"')
        assert finding.steps[-1] == BIND

    def test_override_for_another_driver_is_named(self, root: MadeUpRoot) -> None:
        root.install()
        root.load("pciedma_xdma")
        root.device(ADDRESS, "10ee:9038", override="vfio-pci")
        assert found(root, "driver").cause.startswith("Its driver_override is vfio-pci")


class TestVersion:
    def test_equal_is_ok(self, well: MadeUpRoot) -> None:
        assert found(well, "version") == ok("module and Python 0.1.0")

    @pytest.mark.parametrize(("version", "srcversion"), [("0.1.0", "BBBB"), ("0.0.9", "AAAA")])
    def test_installed_since_it_was_loaded_says_reload(self, well: MadeUpRoot, version: str, srcversion: str) -> None:
        well.load(version=version, srcversion=srcversion)
        finding = found(well, "version")
        assert finding.summary.endswith(f"(loaded {version}, installed 0.1.0)")
        assert finding.steps == (
            "sudo fuser -v /dev/pciedma*", "sudo modprobe -r pciedma_xdma pciedma", "sudo modprobe -a pciedma_xdma",
        )

    def test_of_a_zstd_module_is_asked_of_modinfo(self, root: MadeUpRoot) -> None:
        root.install(b"zstd", ".ko.zst")
        root.load()
        file = f"{MODULES}/updates/dkms/pciedma.ko.zst"
        assert found(root, "version").status == Status.OK
        root.outputs[f"modinfo -F srcversion {file}"] = Output(0, "BBBB\n")
        root.outputs[f"modinfo -F version {file}"] = Output(0, "0.2.0\n")
        assert found(root, "version").summary.endswith("(loaded 0.1.0, installed 0.2.0)")

    def test_other_than_pythons_is_a_note(self, root: MadeUpRoot) -> None:
        root.install(module_content("9.0.0"))
        root.load(version="9.0.0")
        finding = found(root, "version")
        assert (finding.status, finding.summary) == (Status.NOTE, f"module 9.0.0, Python {pciedma.__version__}")

    def test_of_two_copies_is_the_one_that_modprobe_takes(self, well: MadeUpRoot) -> None:
        well.write(f"{MODULES}/zzz/pciedma.ko", module_content(srcversion="OLD"))
        assert found(well, "version").status == Status.OK


class TestNodes:
    @pytest.fixture
    def closed(self, well: MadeUpRoot) -> MadeUpRoot:
        """All that is right but the user's session."""
        well.closed = {"/dev/pciedma0", "/dev/pciedma0c0", "/dev/pciedma0c1"}
        well.session(USER_UID)
        return well

    @staticmethod
    def give(root: MadeUpRoot, owner: Owner) -> None:
        root.owners = dict.fromkeys(root.owners, owner)

    def test_open_is_ok(self, well: MadeUpRoot) -> None:
        assert found(well, "nodes") == ok("all may be opened")

    def test_open_for_root_says_whose_rights_were_looked_at(self, well: MadeUpRoot) -> None:
        well.session(0)
        assert "by root" in found(well, "nodes").summary

    def test_closed_to_a_user_outside_the_group_says_adduser(self, closed: MadeUpRoot) -> None:
        finding = found(closed, "nodes")
        assert finding.summary == "ada may not open /dev/pciedma0, /dev/pciedma0c0, /dev/pciedma0c1"
        assert finding.steps[0] == "sudo adduser ada pciedma"
        assert len(finding.steps) == 2

    def test_closed_to_a_session_older_than_the_membership_says_log_in(self, closed: MadeUpRoot) -> None:
        closed.write("/etc/group", f"pciedma:x:{CARD_GROUP}:bob,ada\n")
        finding = found(closed, "nodes")
        assert "this session began before" in finding.cause
        assert finding.steps == ("# log out and in again (in this shell only: newgrp pciedma)",)

    def test_closed_without_the_rule_says_how_to_get_it(self, closed: MadeUpRoot) -> None:
        closed.session(USER_UID, CARD_GROUP)
        (closed.folder / UDEV_RULE.lstrip("/")).unlink()
        self.give(closed, Owner(0, 0, 0o600))
        finding = found(closed, "nodes")
        assert "/etc/udev/rules.d" in finding.cause
        assert finding.steps == (
            "sudo apt install --reinstall pciedma-common", "sudo udevadm control --reload",
            "sudo udevadm trigger --subsystem-match=pciedma",
        )

    def test_closed_without_the_group_makes_it_first(self, closed: MadeUpRoot) -> None:
        closed.write("/etc/group", "root:x:0:\n")
        self.give(closed, Owner(0, 0, 0o660))
        steps = found(closed, "nodes").steps
        assert steps[0] == "sudo addgroup --system pciedma"
        assert steps[1:3] == ("sudo udevadm control --reload", "sudo udevadm trigger --subsystem-match=pciedma")
        assert steps[3] == "sudo adduser ada pciedma"

    def test_closed_since_before_the_rule_says_trigger(self, closed: MadeUpRoot) -> None:
        closed.session(USER_UID, CARD_GROUP)
        self.give(closed, Owner(0, 0, 0o600))
        finding = found(closed, "nodes")
        assert finding.cause == "The nodes were made before udev knew its rule."
        assert finding.steps[-1] == "sudo udevadm trigger --subsystem-match=pciedma"

    def test_closed_for_no_reason_that_is_known_says_where_to_look(self, closed: MadeUpRoot) -> None:
        closed.session(USER_UID, CARD_GROUP)
        assert found(closed, "nodes").steps == ("ls -l /dev/pciedma*", "id")

    def test_absent_says_trigger(self, closed: MadeUpRoot) -> None:
        closed.owners.clear()
        finding = found(closed, "nodes")
        assert (finding.status, finding.steps[0]) == (
            Status.PROBLEM, "sudo udevadm trigger --subsystem-match=pciedma"
        )
        assert "not there" in finding.summary

    def test_not_given_to_a_container_are_a_note(self, closed: MadeUpRoot) -> None:
        closed.write("/.dockerenv")
        del closed.owners["/dev/pciedma0"], closed.owners["/dev/pciedma0c1"]
        closed.closed.remove("/dev/pciedma0c0")
        finding = found(closed, "nodes")
        assert (finding.status, finding.summary) == (
            Status.NOTE, "/dev/pciedma0, /dev/pciedma0c1: not in this container"
        )
        assert run(closed) == 0

    def test_given_to_a_container_but_closed_are_a_problem(self, closed: MadeUpRoot) -> None:
        closed.write("/.dockerenv")
        del closed.owners["/dev/pciedma0"]
        results = diagnose(doctor_command.CHECKS, Facts(closed.system()))
        said = [(result.finding.status, result.finding.summary) for result in results if result.check == "nodes"]
        assert said == [
            (Status.NOTE, "/dev/pciedma0: not in this container"),
            (Status.PROBLEM, "ada may not open /dev/pciedma0c0, /dev/pciedma0c1"),
        ]


    @pytest.mark.parametrize("mask", ["", "# nothing\n"])
    def test_closed_by_a_rule_without_a_word_of_them_says_which(self, closed: MadeUpRoot, mask: str) -> None:
        closed.session(USER_UID, CARD_GROUP)
        closed.write("/etc/udev/rules.d/60-pciedma.rules", mask)
        self.give(closed, Owner(0, 0, 0o600))
        finding = found(closed, "nodes")
        assert "/etc/udev/rules.d/60-pciedma.rules knows no group pciedma" in finding.cause
        assert finding.steps[0].startswith("# put the newer")


class TestNodesOfWindows:
    NODE = "/dev/pciedma0w0"
    #: What gave windows to whoever has the cards.
    OLD_RULES = 'SUBSYSTEM=="pciedma", MODE="0660", GROUP="pciedma"\n'

    @pytest.fixture
    def window(self, well: MadeUpRoot) -> MadeUpRoot:
        """A card with a window that the user may not open."""
        well.window()
        well.closed = {self.NODE}
        return well

    def test_open_is_ok(self, window: MadeUpRoot) -> None:
        window.closed = set()
        window.session(USER_UID, CARD_GROUP, REGISTERS_GROUP)
        assert found(window, "nodes") == ok("all may be opened")

    def test_closed_to_a_user_outside_the_group_is_a_note(self, window: MadeUpRoot) -> None:
        finding = found(window, "nodes")
        assert (finding.status, finding.summary) == (Status.NOTE, f"ada may not open {self.NODE}")
        assert "registers" in finding.cause and "ada is not in the group pciedma-regs." in finding.cause
        assert finding.steps == (
            "sudo adduser ada pciedma-regs", "# log out and in again (in this shell only: newgrp pciedma-regs)"
        )
        assert run(window) == 0

    def test_closed_to_a_session_older_than_the_membership_is_a_note(self, window: MadeUpRoot) -> None:
        window.write("/etc/group", f"pciedma:x:{CARD_GROUP}:ada\npciedma-regs:x:{REGISTERS_GROUP}:ada\n")
        finding = found(window, "nodes")
        assert (finding.status, len(finding.steps)) == (Status.NOTE, 1)
        assert "this session began before" in finding.cause

    def test_closed_to_a_member_is_a_problem(self, window: MadeUpRoot) -> None:
        window.session(USER_UID, CARD_GROUP, REGISTERS_GROUP)
        finding = found(window, "nodes")
        assert (finding.status, finding.steps) == (Status.PROBLEM, ("ls -l /dev/pciedma*", "id"))

    @pytest.mark.parametrize("closed", [True, False])
    @pytest.mark.parametrize("folder", ["/usr/lib", "/etc"])
    def test_given_to_the_cards_group_by_an_old_rule_is_a_problem(
        self, window: MadeUpRoot, folder: str, closed: bool
    ) -> None:
        rules = f"{folder}/udev/rules.d/60-pciedma.rules"
        window.write(rules, self.OLD_RULES)
        window.owners[self.NODE] = Owner(0, CARD_GROUP, 0o660)
        window.closed = {self.NODE} if closed else set()
        finding = found(window, "nodes")
        assert (finding.status, finding.summary) == (
            Status.PROBLEM, f"{self.NODE}: not for the group pciedma-regs, or not for it alone"
        )
        assert f"{rules} knows no group pciedma-regs" in finding.cause
        first = "# put the newer" if folder == "/etc" else "sudo apt install --reinstall pciedma-common"
        assert finding.steps[0].startswith(first)
        assert finding.steps[1:] == ("sudo udevadm control --reload", "sudo udevadm trigger --subsystem-match=pciedma")

    @pytest.mark.parametrize("owner", [Owner(0, 0, 0o600), Owner(0, REGISTERS_GROUP, 0o640)])
    def test_closed_since_before_the_rule_is_a_problem(self, window: MadeUpRoot, owner: Owner) -> None:
        window.owners[self.NODE] = owner
        finding = found(window, "nodes")
        assert finding.status == Status.PROBLEM
        assert "made before udev knew its rule" in finding.cause
        assert finding.steps == ("sudo udevadm control --reload", "sudo udevadm trigger --subsystem-match=pciedma")

    def test_open_to_everybody_is_a_problem(self, window: MadeUpRoot) -> None:
        window.closed = set()
        window.owners[self.NODE] = Owner(0, REGISTERS_GROUP, 0o666)
        assert found(window, "nodes").status == Status.PROBLEM

    def test_open_by_a_group_of_the_machines_own_is_ok(self, window: MadeUpRoot) -> None:
        window.closed = set()
        window.owners[self.NODE] = Owner(0, 1234, 0o660)
        assert found(window, "nodes") == ok("all may be opened")

    def test_closed_without_the_group_makes_it_first(self, window: MadeUpRoot) -> None:
        window.write("/etc/group", f"pciedma:x:{CARD_GROUP}:ada\n")
        window.owners[self.NODE] = Owner(0, 0, 0o660)
        finding = found(window, "nodes")
        assert finding.status == Status.PROBLEM
        assert finding.steps[0] == "sudo addgroup --system pciedma-regs"

    def test_closed_beside_a_card_are_told_both(self, window: MadeUpRoot) -> None:
        window.session(USER_UID)
        window.closed |= {"/dev/pciedma0", "/dev/pciedma0c0", "/dev/pciedma0c1"}
        results = diagnose(doctor_command.CHECKS, Facts(window.system()))
        said = [(result.finding.status, result.finding.summary) for result in results if result.check == "nodes"]
        assert said == [
            (Status.PROBLEM, "ada may not open /dev/pciedma0, /dev/pciedma0c0, /dev/pciedma0c1"),
            (Status.NOTE, f"ada may not open {self.NODE}"),
        ]

    def test_absent_says_trigger(self, window: MadeUpRoot) -> None:
        del window.owners[self.NODE]
        finding = found(window, "nodes")
        assert (finding.status, finding.summary) == (Status.PROBLEM, f"{self.NODE}: not there")

    def test_not_given_to_a_container_is_a_note(self, window: MadeUpRoot) -> None:
        window.write("/.dockerenv")
        del window.owners[self.NODE]
        finding = found(window, "nodes")
        assert (finding.status, finding.summary) == (Status.NOTE, f"{self.NODE}: not in this container")


class TestMemlock:
    @pytest.mark.parametrize("limit", ["67108864", "unlimited"])
    def test_high_enough_is_ok(self, root: MadeUpRoot, limit: str) -> None:
        root.memlock(limit)
        assert found(root, "memlock").status == Status.OK

    def test_of_root_is_ok(self, root: MadeUpRoot) -> None:
        root.memlock("65536")
        root.session(0)
        assert found(root, "memlock").status == Status.OK

    def test_low_is_a_note_that_names_the_file(self, root: MadeUpRoot) -> None:
        root.memlock(str((64 << 20) - 1))
        finding = found(root, "memlock")
        assert finding.status == Status.NOTE
        assert finding.steps[0].endswith("| sudo tee /etc/security/limits.d/00-pciedma.conf")

    def test_low_though_the_file_is_there_says_log_in(self, root: MadeUpRoot) -> None:
        root.memlock("65536")
        root.write("/etc/security/limits.d/00-pciedma.conf", "@pciedma - memlock unlimited\n")
        root.write("/etc/group", f"pciedma:x:{CARD_GROUP}:ada\n")
        finding = found(root, "memlock")
        assert "this session began before" in finding.cause
        assert finding.steps[-1].startswith("# log out and in again")
        assert not any("adduser" in step for step in finding.steps)

    def test_low_outside_the_group_says_adduser(self, root: MadeUpRoot) -> None:
        root.memlock("65536")
        root.udev()
        root.write("/etc/security/limits.d/00-pciedma.conf", "@pciedma - memlock unlimited\n")
        finding = found(root, "memlock")
        assert "ada is not in the group" in finding.cause
        assert finding.steps[0] == "sudo adduser ada pciedma"

    def test_low_in_the_group_asks_what_overrides_it(self, root: MadeUpRoot) -> None:
        root.memlock("65536")
        root.udev()
        root.session(USER_UID, CARD_GROUP)
        root.write("/etc/security/limits.d/00-pciedma.conf", "@pciedma - memlock unlimited\n")
        finding = found(root, "memlock")
        assert "another line overrides it" in finding.cause
        assert finding.steps[0].startswith("grep -rn memlock")


class TestDevice:
    def test_without_the_option_is_not_looked_at(self, well: MadeUpRoot) -> None:
        assert "device" not in checks(well)

    def test_bound_is_ok(self, well: MadeUpRoot) -> None:
        assert found(well, "device", ADDRESS) == ok(f"{ADDRESS} (10ee:9038) is bound to pciedma_xdma")

    def test_absent_says_so(self, well: MadeUpRoot) -> None:
        finding = found(well, "device", "0000:09:00.0")
        assert (finding.status, finding.summary) == (Status.PROBLEM, "there is nothing at 0000:09:00.0")

    def test_before_the_modules_are_installed_is_skipped(self, root: MadeUpRoot) -> None:
        root.device(ADDRESS, "10ee:9038")
        assert found(root, "device", ADDRESS).status == Status.SKIPPED

    @pytest.mark.parametrize("device_class", ["0x070001", "0x058000", "0x0c0500", "0x120000"])
    def test_of_another_driver_is_a_note_that_says_how_to_take_it_over_for_good(
        self, well: MadeUpRoot, device_class: str
    ) -> None:
        well.device("0000:04:00.0", "1234:abcd", driver="xdma", device_class=device_class)
        finding = found(well, "device", "0000:04:00.0")
        assert finding.status == Status.NOTE
        assert finding.summary == (
            "0000:04:00.0 (1234:abcd) belongs to the driver xdma; its ids are none of ours"
        )
        folder = "/sys/bus/pci/devices/0000:04:00.0"
        assert finding.steps[:6] == (
            "echo 'options pciedma_xdma ids=1234:abcd' | sudo tee -a /etc/modprobe.d/pciedma-ids.conf",
            "echo 'alias pci:v00001234d0000ABCDsv*sd*bc*sc*i* pciedma_xdma' | "
            "sudo tee -a /etc/modprobe.d/pciedma-ids.conf",
            "sudo modprobe pciedma_xdma",
            f"echo pciedma_xdma | sudo tee {folder}/driver_override",
            f"echo 0000:04:00.0 | sudo tee {folder}/driver/unbind",
            "echo 0000:04:00.0 | sudo tee /sys/bus/pci/drivers_probe",
        )
        assert all(step.startswith("#") for step in finding.steps[6:])
        assert run(well, device="0000:04:00.0") == 0

    @pytest.mark.parametrize(("device_class", "kind"), [
        ("0x010802", "storage controller"), ("0x020000", "network adapter"), ("0x030000", "display controller"),
        ("0x060400", "bridge"), ("0x0c0330", "USB controller"),
    ])
    def test_of_another_driver_that_the_machine_needs_changes_nothing(
        self, well: MadeUpRoot, device_class: str, kind: str
    ) -> None:
        well.device("0000:04:00.0", "144d:a808", driver="nvme", device_class=device_class)
        finding = found(well, "device", "0000:04:00.0")
        assert finding.status == Status.NOTE
        assert f"says that it is a {kind}" in finding.cause
        assert finding.steps == ("lspci -nnk -s 0000:04:00.0",)

    def test_with_unknown_ids_says_how_to_add_them(self, root: MadeUpRoot) -> None:
        root.install()
        root.device(ADDRESS, "1234:abcd")
        assert found(root, "device", ADDRESS).steps == (
            "echo 'options pciedma_xdma ids=1234:abcd' | sudo tee -a /etc/modprobe.d/pciedma-ids.conf",
            "echo 'alias pci:v00001234d0000ABCDsv*sd*bc*sc*i* pciedma_xdma' | "
            "sudo tee -a /etc/modprobe.d/pciedma-ids.conf",
            "sudo modprobe pciedma_xdma",
            "echo pciedma_xdma | sudo tee /sys/bus/pci/devices/0000:03:00.0/driver_override",
            "echo 0000:03:00.0 | sudo tee /sys/bus/pci/drivers_probe",
        )

    def test_with_unknown_ids_says_the_same_of_a_loaded_module(self, well: MadeUpRoot) -> None:
        well.device("0000:04:00.0", "1234:abcd")
        steps = found(well, "device", "0000:04:00.0").steps
        assert steps[-3:] == (
            "sudo modprobe pciedma_xdma",
            "echo pciedma_xdma | sudo tee /sys/bus/pci/devices/0000:04:00.0/driver_override",
            "echo 0000:04:00.0 | sudo tee /sys/bus/pci/drivers_probe",
        )

    def test_with_unknown_ids_keeps_those_given_before(self, root: MadeUpRoot) -> None:
        root.install()
        root.device(ADDRESS, "1234:abcd")
        root.write("/etc/modprobe.d/mine.conf", "# mine\noptions pciedma_xdma credits=0 ids=1:2\n")
        step = found(root, "device", ADDRESS).steps[0]
        assert step.endswith(" /etc/modprobe.d/mine.conf")

    @pytest.mark.parametrize(("before", "after"), [("1:2", "1234:abcd,1:2"), ('"1:2,3:4"', '"1234:abcd,1:2,3:4"')])
    def test_step_that_adds_ids_does_so(self, root: MadeUpRoot, before: str, after: str) -> None:
        root.install()
        root.device(ADDRESS, "1234:abcd")
        root.write("/etc/modprobe.d/mine.conf", f"# ids=\noptions pciedma_xdma credits=0 ids={before}\n")
        *words, _ = shlex.split(found(root, "device", ADDRESS).steps[0].removeprefix("sudo "))
        file = root.folder / "etc/modprobe.d/mine.conf"
        subprocess.run([*words, file], check=True)
        assert file.read_text() == f"# ids=\noptions pciedma_xdma credits=0 ids={after}\n"

    @pytest.mark.parametrize("ids", ["1234:abcd", '"1:2,1234:ABCD:1:2"', "0034:abcd"])
    def test_with_ids_given_but_no_alias_says_only_that(self, root: MadeUpRoot, ids: str) -> None:
        root.install()
        root.device(ADDRESS, "0034:abcd" if ids == "0034:abcd" else "1234:abcd")
        root.write("/etc/modprobe.d/mine.conf", f"options pciedma_capric ids={ids}\n")
        finding = found(root, "device", ADDRESS)
        assert "no alias loads pciedma_capric" in finding.summary
        assert finding.steps[0].startswith("echo 'alias pci:v0000")
        assert not any("ids=" in step for step in finding.steps)

    def test_alias_of_unknown_ids_is_one_that_doctor_and_udev_match(self, root: MadeUpRoot) -> None:
        root.install()
        root.device(ADDRESS, "1234:abcd")
        line = shlex.split(found(root, "device", ADDRESS).steps[1])[1]
        modalias = (root.folder / f"sys/bus/pci/devices/{ADDRESS}/modalias").read_text().strip()
        assert fnmatchcase(modalias, line.split()[1])
        root.write("/etc/modprobe.d/pciedma-ids.conf", f"{line}\n")
        assert found(root, "device", ADDRESS) == ok(f"{ADDRESS} has ids of pciedma_xdma: 1234:abcd")


class TestCards:
    def test_none_on_the_bus_says_lspci_and_rescan(self, root: MadeUpRoot) -> None:
        root.install()
        root.device("0000:00:02.0", "8086:1234")
        finding = found(root, "cards")
        assert finding.summary == "no card on the bus"
        assert finding.steps[0] == "lspci -nn"
        assert finding.steps[-1] == "echo 1 | sudo tee /sys/bus/pci/rescan"

    def test_on_the_bus_are_named(self, root: MadeUpRoot) -> None:
        root.install()
        root.device(ADDRESS, "10ee:9038")
        assert ADDRESS in found(root, "cards").summary

    def test_that_work_are_named(self, well: MadeUpRoot) -> None:
        assert found(well, "cards") == ok(f"/dev/pciedma0 (xdma, {ADDRESS})")

    def test_none_with_modules_from_elsewhere_points_at_the_log(self, root: MadeUpRoot) -> None:
        root.load("pciedma_xdma")
        assert found(root, "cards").steps[0] == "sudo dmesg | grep pciedma"


class TestHealth:
    def test_of_a_card_that_answers_is_ok(self, well: MadeUpRoot) -> None:
        assert found(well, "health") == ok("all cards answer")

    @pytest.mark.parametrize(
        ("config", "quarantined", "summary"),
        [
            (BUS_MASTER, 4096, "quarantined, 4096 bytes kept"),
            (BUS_MASTER[:4] + b"\x02" + BUS_MASTER[5:], 0, "stopped"),
            (b"\xff" * 64, 0, "no answer"),
            (b"\xff" * 64, 4096, "no answer, 4096 bytes kept"),
        ],
    )
    def test_of_a_card_that_does_not_says_reset(
        self, root: MadeUpRoot, config: bytes, quarantined: int, summary: str
    ) -> None:
        root.install()
        root.load("pciedma_xdma")
        root.device(ADDRESS, "10ee:9038", driver="pciedma_xdma", config=config)
        root.card(7, quarantined=quarantined)
        finding = found(root, "health")
        assert finding.summary == f"/dev/pciedma7 ({ADDRESS}): {summary}"
        assert finding.steps == ("pciedma reset 7", "pciedma doctor")

    def test_of_a_card_that_lost_its_configuration_says_reset(self, well: MadeUpRoot) -> None:
        well.health(configuration="lost", c2h="broken", h2c="broken")
        finding = found(well, "health")
        assert finding.summary == f"/dev/pciedma0 ({ADDRESS}): configuration lost"
        assert finding.steps == ("pciedma reset 0", "pciedma doctor")

    @pytest.mark.parametrize(("words", "summary"), [
        ({"c2h": "failing"}, "c2h failing"), ({"c2h": "broken", "h2c": "failing"}, "c2h broken, h2c failing"),
    ])
    def test_of_engines_that_do_not_work_names_the_channel(
        self, well: MadeUpRoot, words: dict[str, str], summary: str
    ) -> None:
        well.health(**words)
        finding = found(well, "health")
        assert (finding.status, finding.summary) == (Status.PROBLEM, f"/dev/pciedma0c0 ({ADDRESS}): {summary}")
        assert finding.steps == ("pciedma reset 0", "pciedma doctor")


class TestOthers:
    def test_without_a_driver_are_noted(self, well: MadeUpRoot) -> None:
        well.device("0000:04:00.0", "1234:abcd")
        finding = found(well, "others")
        assert (finding.status, finding.summary) == (Status.NOTE, "without any driver: 0000:04:00.0 (1234:abcd)")
        assert finding.steps == ("pciedma doctor --device 0000:04:00.0",)

    @pytest.mark.parametrize(("driver", "device_class"), [("nvme", "0x010802"), (None, "0x060000"), (None, "0x060400")])
    def test_with_a_driver_and_bridges_are_not(self, well: MadeUpRoot, driver: str | None, device_class: str) -> None:
        well.device("0000:04:00.0", "1234:abcd", driver=driver, device_class=device_class)
        assert "others" not in checks(well)

    def test_are_not_told_from_cards_without_modules(self, root: MadeUpRoot) -> None:
        root.device(ADDRESS, "10ee:9038")
        assert "others" not in checks(root)


class TestLog:
    def test_without_trouble_is_ok(self, well: MadeUpRoot) -> None:
        assert found(well, "kernel log") == ok("no trouble with a card")

    def test_not_readable_says_sudo(self, well: MadeUpRoot) -> None:
        well.log(None)
        assert found(well, "kernel log").steps == ("sudo pciedma doctor",)

    def test_not_readable_by_root_does_not_say_sudo(self, well: MadeUpRoot) -> None:
        well.log(None)
        well.session(0)
        assert found(well, "kernel log").steps == ()

    def test_not_readable_in_a_container_points_at_the_host(self, well: MadeUpRoot) -> None:
        well.log(None)
        well.write("/run/systemd/container", "docker")
        finding = found(well, "kernel log")
        assert finding.cause.endswith("on the host.")
        assert finding.steps == ()

    def test_with_trouble_quotes_it(self, well: MadeUpRoot) -> None:
        line = "[ 9.0] pciedma pciedma0: the card could not be stopped; it cannot reach memory any more"
        well.log(f"{line}\n[ 9.1] usb 1-1: function reset failed\n")
        assert found(well, "kernel log").summary == f'"{line}"'


class TestSystem:
    def test_content_of_some_bytes_reads_no_more(self, root: MadeUpRoot) -> None:
        """The file may be a card's configuration space."""
        os.mkfifo(root.folder / "pipe")
        with (root.folder / "pipe").open("r+b", buffering=0) as pipe:
            os.set_blocking(pipe.fileno(), False)
            pipe.write(b"123456")
            assert root.system().content("/pipe", 4) == b"1234"
            assert pipe.read(2) == b"56"


class TestReport:
    def test_of_a_machine_that_is_well_says_how_to_try(
        self, well: MadeUpRoot, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(well) == 0
        lines = capsys.readouterr().out.splitlines()
        assert all(line.startswith("ok ") for line in lines[:lines.index("")])
        assert lines[-2:] == [
            "All is well. Try a transfer:",
            "    python3 -c 'import pciedma; print(pciedma.open(0).channel(0).read(64))'",
        ]

    def test_of_a_problem_has_cause_and_commands_below_it(
        self, root: MadeUpRoot, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root.headers()
        assert run(root) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split(maxsplit=2) == ["PROBLEM", "modules", "pciedma is not installed"]
        assert lines[1].strip().startswith("There are neither modules")
        assert "sudo apt install pciedma-dkms" in [line.strip() for line in lines]
        assert lines[-1].startswith("1 problem. ")

    def test_never_wraps_a_command(self, root: MadeUpRoot, capsys: pytest.CaptureFixture[str]) -> None:
        root.install()
        root.device(ADDRESS, "1234:abcd")
        run(root, device=ADDRESS)
        step = found(root, "device", ADDRESS).steps[1]
        assert step in [line.strip() for line in capsys.readouterr().out.splitlines()]

    def test_for_root_is_without_sudo(self, root: MadeUpRoot, capsys: pytest.CaptureFixture[str]) -> None:
        root.headers()
        root.session(0)
        run(root)
        assert "apt install pciedma-dkms" in [line.strip() for line in capsys.readouterr().out.splitlines()]

    def test_as_json_has_all_findings(self, root: MadeUpRoot, capsys: pytest.CaptureFixture[str]) -> None:
        root.headers()
        assert run(root, as_json=True) == 1
        report = json.loads(capsys.readouterr().out)
        assert (report["version"], report["problems"]) == (pciedma.__version__, 1)
        assert report["findings"][0] == {
            "check": "modules", "status": "problem", "summary": "pciedma is not installed",
            "cause": "There are neither modules for the running kernel nor sources to build them from.",
            "steps": ["sudo apt install pciedma-dkms"],
        }

    def test_as_json_of_a_machine_that_is_well_exits_with_0(
        self, well: MadeUpRoot, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(well, as_json=True) == 0
        assert json.loads(capsys.readouterr().out)["problems"] == 0

    def test_changes_nothing(self, well: MadeUpRoot, capsys: pytest.CaptureFixture[str]) -> None:
        def files() -> dict[Path, bytes]:
            return {path: path.read_bytes() for path in well.folder.rglob("*") if path.is_file()}

        before = files()
        run(well)
        assert files() == before

    def test_on_an_empty_root_does_not_fail(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        root = MadeUpRoot(tmp_path / "machine")
        root.folder = tmp_path / "empty"
        root.outputs.clear()
        assert run(root) == 1


def test_diagnose_names_the_first_problem_and_not_what_waits_for_it(root: MadeUpRoot) -> None:
    checks = (
        Check("a", lambda facts: [problem("broken", "cause")]),
        Check("b", lambda facts: [ok("fine")], needs=("a",)),
        Check("c", lambda facts: [ok("fine")], needs=("b",)),
        Check("d", lambda facts: [ok("fine")]),
    )
    summaries = [result.finding.summary for result in diagnose(checks, Facts(root.system()))]
    assert summaries == ["broken", "first mend: a", "first mend: a", "fine"]
