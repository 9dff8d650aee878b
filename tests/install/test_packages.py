"""Installing, upgrading and removing the packages where no kernel of Debian's runs: DKMS in a chroot."""

from __future__ import annotations

import re

from pciedma_lab.chroot import PROJECT

from .. import driver
from .conftest import LEFT, Distribution, lines

_ALL = "pciedma pciedma-dkms pciedma-common python3-pciedma pciedma-dev pciedma-doc"
_MODULES = driver.modules()


def _modules(output: str) -> list[str]:
    return sorted(set(re.findall(r"/updates/dkms/(pciedma\w*)\.ko", output)))


def test_install_builds_all_modules_and_purge_leaves_the_group_alone(debian: Distribution) -> None:
    output = debian.run(f"""
        install {_ALL}; find /lib/modules -name '*.ko*' -path '*updates*'
        getent group pciedma pciedma-regs; echo version $(modinfo -F version -k $kernel pciedma) $(pciedma --version)
        echo ==; purge {_ALL}; {LEFT}; getent group pciedma
    """)
    installed, purged = output.split("==\n")
    assert lines(installed, "< ") == lines(purged, "< ") == ["< 0"]
    assert re.search(r"^pciedma: the modules for kernel \S+: built and installed$", installed, re.M)
    assert _modules(installed) == _MODULES
    assert re.search(r"^pciedma:x:\d+:$", installed, re.M)
    assert re.search(r"^pciedma-regs:x:\d+:$", installed, re.M)
    version = re.findall(r"^version (\S+) pciedma (\S+)$", installed, re.M)
    assert version[0][0] == version[0][1]
    assert lines(purged, "/") == []
    assert re.search(r"^pciedma:x:\d+:$", purged, re.M)


def test_build_that_fails_warns_and_leaves_dpkg_configured(debian: Distribution) -> None:
    output = debian.run("break_headers; install pciedma-dkms; state pciedma-dkms; dpkg --audit")
    assert lines(output, "< ") == ["< 0"]
    assert lines(output, "state: ") == ["state: ii "]
    assert re.search(r"^pciedma: the modules for kernel \S+: FAILED$", output, re.M)
    assert "pciedma:   " in output and "#error broken on purpose" in output
    assert re.search(r"The whole log: /var/lib/dkms/pciedma/\S+/failed-\S+\.log$", output, re.M)


def test_log_of_a_build_that_failed_stays_when_another_kernels_works(debian: Distribution) -> None:
    output = debian.run("""
        old=6.1.0-1-amd64; folder=/lib/modules/$old; mkdir -p $folder/kernel $folder/build/include
        echo '$(error broken on purpose)' > $folder/build/Makefile; cp /lib/modules/$kernel/build/.config $folder/build/
        install pciedma-dkms; log=$(echo /var/lib/dkms/pciedma/*/failed-$old.log); cat $log
        purge pciedma-dkms; try ls $log 2>&1
    """)
    assert re.search(r"^pciedma: the modules for kernel 6.1.0-1-amd64: FAILED$", output, re.M)
    assert re.search(r"^pciedma: the modules for kernel \S+: built and installed$", output, re.M)
    assert lines(output, "DKMS ")[0].endswith("for kernel 6.1.0-1-amd64 (x86_64)")
    assert "broken on purpose" in output
    assert re.search(r"cannot access '/var/lib/dkms/pciedma/\S+/failed-6.1.0-1-amd64.log'", output)


def test_modules_made_by_hand_are_left_alone_and_the_way_to_replace_them_works(debian: Distribution) -> None:
    output = debian.run(r"""
        mkdir /lib/modules/$kernel/updates; echo mine > /lib/modules/$kernel/updates/pciedma.ko
        install pciedma-dkms | tr -d '\r' > /root/said; cat /root/said /lib/modules/$kernel/updates/pciedma.ko; echo ==
        try sh -ec "$(sed -n 's/^pciedma:   //p' /root/said | sed 's/sudo //g')"; find /lib/modules -name 'pciedma*'
    """)
    before, after = output.split("==\n")
    assert re.search(r"^pciedma: the modules for kernel \S+: skipped, there are others already", before, re.M)
    assert lines(before, "mine")
    assert lines(after, "< ") == ["< 0"]
    assert _modules(after) == _MODULES
    assert not [line for line in lines(after, "/lib") if "/updates/pciedma" in line]


def test_modules_whose_files_are_gone_are_installed_again(debian: Distribution) -> None:
    output = debian.run("""
        install pciedma-dkms > /dev/null; rm /lib/modules/$kernel/updates/dkms/pciedma_xdma.ko*
        try /usr/lib/pciedma/build-for $kernel; find /lib/modules -name 'pciedma*'; echo ==
        try /usr/lib/pciedma/build-for $kernel
    """)
    again, once_more = output.split("==\n")
    assert _modules(again) == _MODULES
    assert len(lines(again, "pciedma: ")) == 1
    assert lines(once_more, "< ") == ["< 0"]
    assert lines(once_more, "pciedma: ") == []


def test_modules_that_are_empty_are_installed_again(debian: Distribution) -> None:
    output = debian.run("""
        install pciedma-dkms > /dev/null; : > $(echo /lib/modules/$kernel/updates/dkms/pciedma_xdma.ko*)
        try /usr/lib/pciedma/build-for $kernel; find /lib/modules -name 'pciedma*' -size +0
    """)
    assert _modules(output) == _MODULES
    assert re.search(r"^pciedma: the modules for kernel \S+: built and installed$", output, re.M)


def test_modules_without_a_record_of_dkms_are_replaced(debian: Distribution) -> None:
    """As after a loss of /var, or a run that was cut off: one of the files is damaged."""
    output = debian.run(f"""
        install pciedma-dkms > /dev/null; rm -r /var/lib/dkms/pciedma
        : > $(echo /lib/modules/$kernel/updates/dkms/pciedma_xdma.ko*)
        try apt-get -y -q install --reinstall pciedma-dkms; find /lib/modules -name 'pciedma*' -size +0
        echo ==; purge pciedma-dkms pciedma-common; {LEFT}
    """)
    installed, purged = output.split("==\n")
    assert re.search(r"^pciedma: the modules for kernel \S+: built and installed$", installed, re.M)
    assert _modules(installed) == _MODULES
    assert lines(purged, "< ") == ["< 0"]
    assert lines(purged, "/") == []


def test_modules_without_a_record_of_dkms_stay_until_others_are_built(debian: Distribution) -> None:
    output = debian.run(r"""
        install pciedma-dkms > /dev/null; rm -r /var/lib/dkms/pciedma; touch /root/before; break_headers
        try apt-get -y -q install --reinstall pciedma-dkms > /root/said 2>&1; cat /root/said
        find /lib/modules -name 'pciedma*' ! -newer /root/before; echo ==; mend_headers
        try $(sed -n 's/.*when the cause is gone: sudo //p' /root/said | tr -d '\r')
        find /lib/modules -name 'pciedma*' -newer /root/before
    """)
    failed, mended = output.split("==\n")
    assert re.search(r"^pciedma: the modules for kernel \S+: FAILED$", failed, re.M)
    assert _modules(failed) == _MODULES
    assert re.search(r"^pciedma: the modules for kernel \S+: built and installed$", mended, re.M)
    assert _modules(mended) == _MODULES


def test_modules_are_installed_though_the_clock_is_behind(debian: Distribution) -> None:
    output = debian.run("touch -d 2099-01-01 /lib/modules/$kernel/build/Module.symvers; install pciedma-dkms")
    assert re.search(r"^pciedma: the modules for kernel \S+: built and installed$", output, re.M)


def test_kernel_that_was_built_anew_under_its_name_is_built_for_anew(debian: Distribution) -> None:
    output = debian.run("""
        install pciedma-dkms > /dev/null; touch /lib/modules/$kernel/updates/dkms/pciedma.ko* -d @1000000000
        touch /lib/modules/$kernel/build/Module.symvers
        try /usr/lib/pciedma/build-for $kernel; find /lib/modules/$kernel/updates -name 'pciedma*' -newermt @1000000001
    """)
    assert re.search(r"^pciedma: the modules for kernel \S+: built and installed$", output, re.M)
    assert _modules(output) == _MODULES


def test_purge_without_the_sources_leaves_nothing_of_ours(debian: Distribution) -> None:
    output = debian.run(f"""
        install pciedma-dkms > /dev/null; rm -r /usr/src/pciedma-*
        purge pciedma-dkms pciedma-common; state pciedma-dkms; {LEFT}
    """)
    assert lines(output, "< ") == ["< 0"]
    assert lines(output, "/") == []


def test_build_that_failed_goes_on_as_the_warning_says(debian: Distribution) -> None:
    output = debian.run(r"""
        break_headers; install pciedma-dkms > /root/said 2>&1; mend_headers
        # apt's terminal ends lines its own way
        try $(sed -n 's/.*when the cause is gone: sudo //p' /root/said | tr -d '\r'); find /lib/modules -name 'pciedma*'
    """)
    assert lines(output, "< ") == ["< 0"]
    assert _modules(output) == _MODULES


def test_kernel_whose_build_fails_is_configured_all_the_same(debian: Distribution) -> None:
    """The hooks of a kernel's package, as dpkg runs them: DKMS's own would fail."""
    output = debian.run("""
        mv /lib/modules/$kernel/build /root/; install pciedma-dkms > /dev/null; mv /root/build /lib/modules/$kernel/
        export DPKG_MAINTSCRIPT_PACKAGE=linux-headers; break_headers
        try run-parts --exit-on-error --arg=$kernel /etc/kernel/header_postinst.d; echo ==; mend_headers
        try run-parts --exit-on-error --arg=$kernel /etc/kernel/header_postinst.d; find /lib/modules -name 'pciedma*'
    """)
    broken, mended = output.split("==\n")
    assert lines(broken, "< ") == lines(mended, "< ") == ["< 0"]
    assert "FAILED" in broken
    assert _modules(mended) == _MODULES


def test_hooks_come_before_those_that_another_module_can_end(debian: Distribution) -> None:
    output = debian.run("""
        mv /lib/modules/$kernel/build /root/; install pciedma-dkms > /dev/null
        for folder in postinst.d header_postinst.d; do
            run-parts --list /etc/kernel/$folder | grep -e dkms -e pciedma
        done
    """)
    names = [line.rpartition("/")[2] for line in lines(output, "/etc/kernel/")]
    assert names == ["build-pciedma", "dkms"] * 2


def test_kernel_that_is_replaced_by_one_of_the_same_name_is_built_for_anew(debian: Distribution) -> None:
    output = debian.run("""
        install pciedma-dkms > /dev/null; export DPKG_MAINTSCRIPT_PACKAGE=linux-image
        [ ! -d /etc/kernel/preinst.d ] || run-parts --arg=$kernel /etc/kernel/preinst.d > /dev/null 2>&1
        echo left; find /lib/modules -name 'pciedma*'; echo built
        run-parts --exit-on-error --arg=$kernel /etc/kernel/postinst.d; find /lib/modules -name 'pciedma*'
    """)
    left, built = output.split("left\n")[1].split("built\n")
    assert _modules(left) == ([] if debian.suite != "bookworm" else _MODULES)  # whose DKMS has no such hook
    assert _modules(built) == _MODULES


def test_upgrade_that_does_not_come_about_leaves_modules_that_are_built(debian: Distribution) -> None:
    """As dpkg calls the scripts: prerm of what is installed, and when the new one cannot be unpacked, its postinst."""
    output = debian.run("""
        install pciedma-dkms > /dev/null; info=/var/lib/dpkg/info/pciedma-dkms
        export DPKG_MAINTSCRIPT_PACKAGE=pciedma-dkms DPKG_MAINTSCRIPT_NAME=prerm
        $info.prerm upgrade 9 > /dev/null; find /lib/modules -name 'pciedma*'; echo ==
        try $info.postinst abort-upgrade 9; find /lib/modules -name 'pciedma*'
    """)
    before, after = output.split("==\n")
    assert _modules(before) == []
    assert lines(after, "< ") == ["< 0"]
    assert _modules(after) == _MODULES


def test_another_version_in_usr_src_is_left_alone(debian: Distribution) -> None:
    output = debian.run("""
        mkdir /usr/src/pciedma-98.0 /usr/src/pciedma-0.0.1; echo broken > /usr/src/pciedma-98.0/dkms.conf
        install pciedma-dkms; state pciedma-dkms
    """)
    assert lines(output, "< ") == ["< 0"]
    assert lines(output, "state: ") == ["state: ii "]
    assert re.search(r"^pciedma: the modules for kernel \S+: built and installed$", output, re.M)


def test_dkms_by_hand_builds_too(debian: Distribution) -> None:
    output = debian.run("""
        mv /lib/modules/$kernel/build /root/; install pciedma-dkms > /dev/null; mv /root/build /lib/modules/$kernel/
        try dkms autoinstall -k $kernel; find /lib/modules -name 'pciedma*'
    """)
    assert lines(output, "< ") == ["< 0"]
    assert _modules(output) == _MODULES


def test_modules_are_signed_with_a_fleets_key_as_the_documentation_says(debian: Distribution) -> None:
    """Its commands are typed; ``install`` alone is apt's here."""
    section = (PROJECT / "docs/secure-boot.md").read_text().split("## Many machines\n")[1].split("\n## ")[0]
    key, files, settings = re.findall(r"^\n((?: {4,}\S.*\n)+)", section, re.M)[:3]
    assert key.lstrip().startswith("openssl req") and "sudo install" in files and "mok_certificate=" in settings
    output = debian.run(f"""
        cd /root
{key}{files.replace("sudo ", "command ")}
        mkdir -p /etc/dkms/framework.conf.d; cat > /etc/dkms/framework.conf.d/pciedma.conf << 'end'
{settings}end
        install pciedma-dkms
        for name in {" ".join(_MODULES)}; do echo signer: $(modinfo -F signer -k $kernel $name); done
    """)
    assert lines(output, "< ") == ["< 0"]
    assert lines(output, "signer: ") == ["signer: Example's kernel modules"] * len(_MODULES)


def test_kernels_that_do_not_fit_are_skipped_with_one_line_each(debian: Distribution) -> None:
    output = debian.run("""
        for name in 5.10.0-9-amd64 6.0.12-1-amd64 8.0.1-amd64 6.99.0-bare; do
            mkdir -p /lib/modules/$name/kernel; cd /lib/modules/$name
            cp -rs $(readlink -f /lib/modules/$kernel/build) build
        done
        for file in .config include/config/auto.conf; do
            cd /lib/modules/6.99.0-bare/build; grep -v CONFIG_PCI_MSI= $file > /root/file; rm $file; cp /root/file $file
        done
        mkdir -p /lib/modules/6.98.0-headless/kernel /lib/modules/6.97.0-1-rt-amd64/kernel
        mkdir -p /lib/modules/6.96.0-1-amd64/build/include
        mkdir -p /lib/modules/6.1.76-old/kernel /lib/modules/6.1.76-old/source/include/linux; cd /lib/modules/6.1.76-old
        cp -rs $(readlink -f /lib/modules/$kernel/build) build; touch source/include/linux/kernel.h
        install pciedma-dkms; try /usr/lib/pciedma/build-for 6.98.0-headless 6.97.0-1-rt-amd64
    """)
    assert lines(output, "< ") == ["< 0", "< 0"]
    said = {line.split(": ")[1].split()[-1]: line.split(": ", 2)[2] for line in lines(output, "pciedma: ")}
    assert said.pop("5.10.0-9-amd64") == said.pop("6.0.12-1-amd64") == "skipped, it is older than 6.1"
    assert said.pop("8.0.1-amd64").startswith("skipped, it is newer than what pciedma ")
    assert said.pop("6.99.0-bare").startswith('skipped, it lacks one of the options "CONFIG_PCI_MSI ')
    assert said.pop("6.1.76-old") == (
        "skipped, it is older than 6.1.79 (or of 6.2 to 6.4): its headers have no linux/cleanup.h"
    )
    missing = "skipped, its headers are missing; they are built when linux-headers-"
    assert said.pop("6.98.0-headless") == f"{missing}6.98.0-headless is installed"
    later = "linux-headers-rt-amd64 brings those of later kernels"
    assert said.pop("6.97.0-1-rt-amd64") == f"{missing}6.97.0-1-rt-amd64 is installed; {later}"
    assert said.pop("6.96.0-1-amd64").startswith("skipped, only its headers are here; ")
    assert list(said.values()) == ["built and installed"]
